#!/bin/sh
# Replaces dlt in a study: logs its command line, and writes run folders with a few steps. Its environment:
#   FAKE_LOG      file for "PID dlt ARGUMENTS" at the start and "end RUN" at the end of a run
#   FAKE_STEP_S   seconds per step; FAKE_SLOW=PATTERN limits it to these run folders [all]
#   FAKE_FAILS    patterns of run folders whose runs fail after two steps with the code FAKE_CODE [6]
set -f
echo "$$ dlt $*" >>"$FAKE_LOG"

refuse() { # refuse CODE MESSAGE
    echo "error: $2" >&2
    exit "$1"
}

matches() { # matches WORD PATTERN...
    word=$1
    shift
    for pattern in "$@"; do
        case "$word" in $pattern) return 0 ;; esac
    done
    return 1
}

memory() { # inspect --memory of a preset, or of a spec file that may split groups
    local between="usual under a random policy" word
    for word in "$@"; do
        if [ -f "$word" ] && grep -qE '^decision = "(split|swap)"' "$word"; then between="after the last split"; fi
    done
    for state in "at the start" "$between" "no layer tied"; do
        echo "{\"state\":\"$state\",\"peak_bytes\":58000000,\"weights_bytes\":6000000,\"gradient_bytes\":6000000,\"moment_bytes\":12000000}"
    done
}

tokenizer() { # data tokenizer train TEXT --vocabulary N --out FILE
    [ -f "$4" ] || refuse 4 "$4: no such text"
    echo "{\"of\":$6}" >"$8"
}

figure() { # figure KIND RUN|FILE... --force --out FILE | correlations --save RUN...
    kind=$1 to="" all=""
    shift
    while [ $# -gt 0 ]; do
        case $1 in
        --save) to=save ;;
        --force) ;;
        --out) to=$2 && shift ;;
        *)
            shown=$1
            if [ ! -f "$shown" ]; then
                [ -f "$1/summary.json" ] || refuse 4 "$1: no finished run"
                [ "$to" != save ] || echo '{"layers":[0,1],"values":[1.0,0.5,0.5,1.0]}' >"$1/correlations.json"
                shown=$1/metrics.jsonl
            fi
            while read -r line; do all="$all$line
"; done <"$shown"
            ;;
        esac
        shift
    done
    [ "$to" = save ] || echo "$kind of $all" >"$to"
}

begin() { # begin ARGUMENTS: makes $run with the files that exist before step 0
    [ ! -e "$run" ] || refuse 4 "$run already exists"
    mkdir -p "$run" || exit 5
    words="\"$0\""
    for word in "$@"; do words="$words,\"$word\""; done
    echo "schema = 1
name = \"smoke\"
[data]
source = \"$data\"
[agent]
recording = \"$recording\"" >"$run/spec.toml"
    echo "{\"schema\":1,\"version\":\"0.1.0\",\"revision\":null,\"toolchain\":\"rustc\",\"host\":{\"cpu\":\"a processor\",\"cores\":2,
\"os\":\"linux\"},\"threads\":1,\"device\":\"cpu\",\"seed\":$seed,\"spec_fingerprint\":\"0\",\"data\":{\"source\":\"$data\",\"sha256\":\"0\",
\"tokenizer\":\"gpt2\",\"train_tokens\":100,\"validation_tokens\":10,\"test_tokens\":10},\"command_line\":[$words],\"started_at\":1}" \
        >"$run/provenance.json"
    echo '{"kind":"header","schema":1}' >"$run/metrics.jsonl"
    write_states
}

write_states() {
    echo "{\"format\":\"dlt-states\",\"version\":1,\"n_layers\":$layers}" >"$run/states.jsonl"
}

steps() { # from the first missing step to step 4
    step=0 whole=""
    [ -s "$run/states.jsonl" ] || write_states
    read -r head <"$run/states.jsonl"
    while read -r line; do
        whole="$whole$line
"
        case $line in *'"step":'*) step=$((step + 1)) ;; esac
    done <"$run/metrics.jsonl"
    # A resumed run drops an incomplete last line.
    [ -z "$resumed" ] || printf %s "$whole" >"$run/metrics.jsonl"
    while [ $step -lt 4 ]; do
        step=$((step + 1))
        if [ -n "$FAKE_STEP_S" ] && matches "$run" "${FAKE_SLOW:-*}"; then sleep "$FAKE_STEP_S"; fi
        echo "{\"kind\":\"step\",\"step\":$step,\"loss\":2.5,\"learning_rate\":0.001,\"gradient_norm\":1.0,\"tokens\":$((step * 128)),\
\"independent_layers\":2,\"distinct_layers\":2,\"trainable_parameters\":1000000,\"block_parameters\":50000,\"elapsed_ms\":1.0,\
\"tokens_per_s\":100.0}" >>"$run/metrics.jsonl"
        case $run/$step/$head in *"/full-"*/2/*'"n_layers":4'*) echo '{"step":2,"action":[0,1,1,2],"state":[0,1,1,1]}' >>"$run/states.jsonl" ;; esac
        if [ $step -eq 2 ] && matches "$run" $FAKE_FAILS; then refuse "${FAKE_CODE:-6}" "the loss is not a finite number"; fi
    done
    case $run in */method/*)
        # The run ends past its best. The last two rows are the kept model, on validation and test.
        for row in 2,validation,148.5 4,validation,163.35 2,validation,148.0 2,test,150.25; do
            rest=${row#*,}
            echo "{\"kind\":\"evaluation\",\"step\":${row%%,*},\"split\":\"${rest%,*}\",\"loss\":5.1,\"perplexity\":${rest#*,},\"tokens\":10,\"elapsed_ms\":1.0}"
        done >>"$run/metrics.jsonl"
        ;;
    esac
}

finish() {
    scores="" validation=148.5 test=150.25 blocks=50000 all=1000000
    # In the study of our method, one rate is better, and one model is smaller and worse.
    case $run in
    */method/*-2e-3-*) validation=140.5 test=141.25 ;;
    */method/size-1x*) test=200.25 blocks=25000 all=900000 ;;
    esac
    case $run in *vit-cifar10/* | *glue-*)
        scores='"validation_scores":{"accuracy":0.75,"majority_accuracy":0.5,"matthews":0.25},"test_scores":{"accuracy":0.625,"majority_accuracy":0.5},'
        ;;
    esac
    mkdir -p "$run/checkpoint"
    echo "{\"schema\":1,\"name\":\"smoke\",\"seed\":1,\"steps\":4,\"best_step\":4,\"validation_loss\":5.0,\"validation_perplexity\":$validation,
\"test_perplexity\":$test,$scores\"unigram_perplexity\":400.0,\"unigram_test_perplexity\":410.0,\"bits_per_byte\":2.0,
\"trainable_parameters_mean\":1000000.0,\"trainable_parameters_end\":$all,\"block_parameters_mean\":$blocks.0,\"block_parameters_end\":50000,
\"conventional_parameters\":2000000,\"conventional_block_parameters\":100000,\"independent_layers_mean\":2.0,\"independent_layers_end\":2,
\"distinct_layers_mean\":2.5,\"distinct_layers_end\":2,\"tokens_per_s\":100.0,\"seconds_per_epoch\":1.5,\"elapsed_s\":1.0,
\"elapsed_training_s\":0.5,\"elapsed_deciding_s\":0.1,\"elapsed_rewarding_s\":0.1,\"peak_rss_mb\":80.0,\"predicted_peak_rss_mb\":75.0,
\"mean_rss_mb\":70.0,\"weights_gradients_moments_mb_peak\":24.0}" >"$run/summary.new"
    mv "$run/summary.new" "$run/summary.json"
    echo "end $run" >>"$FAKE_LOG"
}

case $1 in
inspect) memory "$@" && exit ;;
figure) shift && figure "$@" && exit ;;
data) tokenizer "$@" && exit ;;
esac

run="" resumed="" layers=4 seed=1 data=shakespeare recording=""
all="$*"
for word in "$@"; do
    case $before in
    --out) run=$word ;;
    --resume) run=$word resumed=yes ;;
    --seed) seed=$word ;;
    --data) data=$word ;;
    --set)
        case $word in
        model.layers=*) layers=${word#*=} ;;
        agent.recording=*) recording=${word#*=} ;;
        esac
        ;;
    esac
    before=$word
done
if [ -n "$resumed" ]; then
    [ -f "$run/metrics.jsonl" ] && [ ! -f "$run/summary.json" ] || refuse 4 "$run: nothing to resume"
else
    [ -n "$run" ] || refuse 2 "no --out in $all"
    if [ "$1" = finetune ] && [ ! -f "$2/summary.json" ]; then refuse 4 "$2: no finished run"; fi
    if [ -n "$recording" ] && [ ! -f "$recording/states.jsonl" ]; then refuse 4 "no recording of decisions at $recording"; fi
    begin "$@"
fi
steps
finish
