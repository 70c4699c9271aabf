#!/usr/bin/env bash
# Runs a small study through a real Slurm on this machine, and the same cells without Slurm:
# bash tests/slurm/one-machine.sh XTASK DLT
# It starts munged, slurmctld and slurmd as root in a temporary folder and stops them at its end. They must be installed
# (Debian: apt-get install slurm-wlm munge). One task is requeued in the middle of its run and must resume. All cells
# must be done then, with the same states and the same bytes of models as without Slurm.
set -euo pipefail
xtask=$(realpath "$1") dlt=$(realpath "$2")
export PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "slurm: $*" >&2
    tail -n 20 "$folder"/*.log "$folder"/*/runs/study/smoke/slurm/*.log >&2 || true
    exit 1
}
for program in munged slurmctld slurmd sbatch scontrol squeue; do
    command -v "$program" >/dev/null || { echo "slurm: '$program' is missing: apt-get install slurm-wlm munge" >&2; exit 1; }
done

# A wait ends a test that hangs, so it is many times what a slow machine needs.
await() { # await SECONDS WHAT COMMAND...: until the command succeeds
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "waited in vain for: $what"
        sleep 0.1
    done
}

# munged wants a folder that everybody can enter.
folder=$(mktemp -d)
chmod 755 "$folder"
export SLURM_CONF=$folder/slurm.conf
daemons=()
is_gone() { ! kill -0 "$1" 2>/dev/null; }
is_idle() { [ -z "$(squeue --noheader)" ]; }
finish() {
    local code=$? daemon
    trap - EXIT
    set +e
    # Its tasks first: without slurmd nobody would end them.
    timeout 10 scancel --signal=KILL --full --user=root 2>/dev/null
    timeout 10 scancel --user=root 2>/dev/null
    for _ in $(seq 100); do timeout 5 squeue --noheader 2>/dev/null | grep -q . || break; sleep 0.1; done
    for daemon in "${daemons[@]}"; do kill "$daemon" 2>/dev/null; done
    for daemon in "${daemons[@]}"; do
        for _ in $(seq 100); do is_gone "$daemon" && break; sleep 0.1; done
        kill -KILL "$daemon" 2>/dev/null
    done
    rm -rf "$folder"
    exit "$code"
}
trap finish EXIT

host=$(hostname -s)
# Ports that are unlikely to be used, and other ones for two scripts at once.
port=$((20000 + $$ % 10000 * 2))
dd if=/dev/urandom of="$folder/munge.key" bs=64 count=1 status=none
chmod 600 "$folder/munge.key"
cat >"$SLURM_CONF" <<EOF
ClusterName=one-machine
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=10
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024))
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
EOF
mkdir "$folder/state" "$folder/spool"

munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munge.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" >/dev/null 2>&1 &
daemons+=($!)
await 60 munged test -S "$folder/munge.socket"
slurmctld -D -L "$folder/slurmctld.log" >/dev/null 2>&1 &
daemons+=($!)
slurmd -D -N "$host" -L "$folder/slurmd.log" >/dev/null 2>&1 &
daemons+=($!)
is_up() { [ "$(sinfo --noheader --format=%T)" = idle ]; }
await 120 "a node of Slurm" is_up

# The first run of one cell, which another needs, stops after its first step, until Slurm wakes it to end it. It yields
# to the loop that watches it, or it could be done before the loop looks.
cat >"$folder/dlt" <<EOF
#!/bin/sh
case \$*:\$(ls "$folder") in
*paused*) ;;
*"--out runs/study/smoke/shakespeare/full-1 "*)
    chrt --idle 0 "$dlt" "\$@" &
    until grep -q '"step":1,' runs/study/smoke/shakespeare/full-1/metrics.jsonl 2>/dev/null; do sleep 0.01; done
    kill -STOP \$!
    touch "$folder/paused"
    wait
    exit 1
    ;;
esac
exec "$dlt" "\$@"
EOF
chmod +x "$folder/dlt"
# Two cells in an array, and one in another that depends on it.
study=(ablation --only vii,iv --scale smoke)

# A folder with a space, because it is in the scripts. Its path is in models that follow recorded decisions, so both
# studies run at this path, one after the other.
mkdir "$folder/a study"
cd "$folder/a study"
task=$("$xtask" "${study[@]}" --dlt "$folder/dlt" --slurm --dry-run | sed -n 's/^\([0-9]*\)) cell=shakespeare.full-1 ;;/\1/p')
"$xtask" "${study[@]}" --dlt "$folder/dlt" --threads 1 --slurm --slurm-option "--comment='a test'" --slurm-option --mem=200M | tee "$folder/said"
first=$(sed -n 's/^job \([0-9]*\): 2 of .*/\1/p' "$folder/said")
await 200 "the first step of a task" test -e "$folder/paused"
scontrol requeue "${first}_$task"
await 400 "the end of all jobs" is_idle

timeout 200 "$xtask" status --scale smoke | grep shakespeare/ >"$folder/status-slurm"
grep -q -- '"--resume"' runs/study/smoke/shakespeare/full-1.log || fail "the task that was requeued did not resume"
[ "$(grep -c '| done |' "$folder/status-slurm")" = 3 ] || { cat "$folder/status-slurm" >&2; fail "expected 3 cells that are done"; }
timeout 200 "$xtask" "${study[@]}" --dlt "$dlt" --slurm | grep "^every cell is done" || fail "finished cells are submitted"

mv "$folder/a study" "$folder/by slurm"
mkdir "$folder/a study"
cd "$folder/a study"
timeout 400 "$xtask" "${study[@]}" --dlt "$dlt" --threads 2 --jobs 2 >/dev/null
timeout 200 "$xtask" status --scale smoke | grep shakespeare/ >"$folder/status"
diff "$folder/status" "$folder/status-slurm" || fail "the cells differ from those that ran without Slurm"
for run in runs/study/smoke/shakespeare/*/; do
    for file in states.jsonl model.safetensors; do
        cmp "$run$file" "$folder/by slurm/$run$file" || fail "$run$file differs from that without Slurm"
    done
done
echo "slurm: 3 cells in two array jobs, one of them requeued and resumed; equal to those without Slurm"
