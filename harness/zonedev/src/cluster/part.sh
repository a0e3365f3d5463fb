#!/bin/sh
# One part of a run, as a task of a job array: part.sh RUN KIND PARTS JOBS DIRECTORY WORDS…
# WORDS are `zonedev`'s, without what makes it a part. $ZONEDEV_CACHE and $ZONEDEV_AGENT come with the job.
set -u
run=$1 kind=$2 parts=$3 jobs=$4 directory=$5
shift 5

part=$SLURM_ARRAY_TASK_ID
attempt=${SLURM_ARRAY_JOB_ID}_$part.${SLURM_RESTART_COUNT:-0}
node=${SLURMD_NODENAME:-$(uname -n)}
zonedev=$run/slurm/zonedev

cut_off() {
    echo "zonedev: $1 is not there on $node"
    echo "  help: the project, its runs and ZONEDEV_CACHE must be on a file system that all nodes share (docs/cluster.md)"
    [ ! -d "$run/slurm/ended" ] || echo "3 $node" >"$run/slurm/ended/$attempt"
    exit 3
}
[ -d "$run/slurm/ended" ] || cut_off "the run's folder $run"
[ -x "$zonedev" ] || cut_off "$zonedev"
[ -d "$ZONEDEV_CACHE" ] || cut_off "the cache $ZONEDEV_CACHE"
cd "$directory" 2>/dev/null || cut_off "the directory $directory"

mkdir -p "$run/parts/$part"
mine=$run/parts/$part/$attempt
# What had finished of the last attempt is taken over, as a copy: whoever may still write there, writes there.
last=
for old in "$run/parts/$part"/*; do
    if [ "$old" = "$mine" ] || [ ! -e "$old/begun.json" ]; then
        continue
    elif [ -z "$last" ] || [ -n "$(find "$old/journal.jsonl" -newer "$last/journal.jsonl")" ]; then
        last=$old
    fi
done
code=2
if [ -n "$last" ] && cp -r "$last" "$mine"; then
    rm -f "$mine/record.json"
    echo "zonedev: goes on with what had finished in $last"
    "$zonedev" matrix --resume "$mine" -j "$jobs"
    code=$?
fi
# Nothing to take over, or not here: another QEMU, other kernels.
if [ "$code" -eq 2 ]; then
    rm -rf "$mine"
    "$zonedev" "$@" --partition "$kind:$part/$parts" --run-dir "$mine" -j "$jobs"
    code=$?
fi
echo "$code $node" >"$run/slurm/ended/.$attempt" && mv "$run/slurm/ended/.$attempt" "$run/slurm/ended/$attempt"
exit "$code"
