#!/bin/sh
# Replaces dlt: logs its arguments and answers at once. With FAKE_DLT_FAILS=WORD it fails if WORD is one of its arguments.
echo "dlt $*" >>"$FAKE_LOG"
if [ -n "$FAKE_DLT_FAILS" ]; then
    case " $* " in *" $FAKE_DLT_FAILS "*)
        echo "a word of warning" >&2
        echo "not enough memory for it" >&2
        exit 5
        ;;
    esac
fi
echo '{"peer": "dlt 0.1.0", "params": 1234567, "step_ms_median": 50.0, "tokens_per_s": 4000.0, "peak_rss_mb": 100, "mean_rss_mb": 90.5, "loss": 10.8, "product_engine": "AMX"}'
