#!/bin/sh
# Replaces mpirun with dlt below it: logs its arguments and answers at once, as process 0 does.
if [ "$1" = "--version" ]; then
    exit 0
fi
echo "mpirun $*" >>"$FAKE_LOG"
echo '{"peer": "dlt 0.1.0", "params": 1234567, "step_ms_median": 40.0, "tokens_per_s": 5000.0, "peak_rss_mb": 100, "loss": 10.8, "processes": 2, "exchange_share": 0.1, "bytes_per_step": 4938268, "rank_rss_mb": 110}'
