#!/bin/sh
# Builds kernels into the cache, as a job: build.sh RUN DIRECTORY WORDS…
set -u
run=$1 directory=$2
shift 2

attempt=$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
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

"$zonedev" "$@" --build-only
code=$?
echo "$code $node" >"$run/slurm/ended/.$attempt" && mv "$run/slurm/ended/.$attempt" "$run/slurm/ended/$attempt"
exit "$code"
