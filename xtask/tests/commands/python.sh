#!/bin/sh
# Replaces Python with PyTorch. Without FAKE_TORCH it has no PyTorch.
if [ "$1" = "-c" ]; then
    if [ -z "$FAKE_TORCH" ]; then
        echo "ModuleNotFoundError: No module named 'torch'" >&2
        exit 1
    fi
    echo "Python 3.0.0, PyTorch $FAKE_TORCH"
    exit 0
fi
echo "python $*" >>"$FAKE_LOG"
case "$*" in *pytorch_product.py*)
    echo '{"peer": "pytorch", "threads": 1, "products": [{"shape": "4x2x3", "format": "bf16", "pass": "forward", "ms": 3.0, "gflop_per_s": 16.0}]}'
    exit 0
    ;;
esac
case " $* " in *" --processes "*)
    echo '{"peer": "pytorch", "params": 1234567, "step_ms_median": 80.0, "tokens_per_s": 2500.0, "peak_rss_mb": 200, "loss": 10.9, "processes": 2, "exchange_share": 0.3, "bytes_per_step": 4938268, "rank_rss_mb": 250}'
    exit 0
    ;;
esac
echo '{"peer": "pytorch", "params": 1234567, "step_ms_median": 100.0, "tokens_per_s": 2000.0, "peak_rss_mb": 200, "loss": 10.9}'
