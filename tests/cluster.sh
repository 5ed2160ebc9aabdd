#!/bin/sh
# Runs what docs/cluster.md says, as it stands there, with the tq4 of the first argument (target/release/tq4): the Slurm
# array on a Slurm of its own, one task requeued and one killed in the midst of its part, merged to the bytes of one run but
# for times; then the Kubernetes job, by its schema and as a command. Wants Debian's slurmctld, slurmd, slurm-client and
# munge, a Python with NumPy and safetensors (TQ4_PYTHON) and the kubernetes-validate beside it. Exit code 77: something is
# not there, and TQ4_REQUIRE is not set.
set -eu
tq4=$(realpath "${1:-$(dirname "$0")/../target/release/tq4}")
cd "$(dirname "$0")/.."
repository=$PWD
python=${TQ4_PYTHON:-python3}
PATH=$PATH:/usr/sbin
# The node's name alone; its address is this machine's own, so that no name server is asked.
host=$(hostname -s)
work=$(mktemp -d)
gates=$work/gates
daemons=

stop() {
  status=$?
  trap - EXIT
  set +e
  # Tasks that wait end by themselves, whatever becomes of Slurm.
  touch "$gates/open-1" "$gates/open-2" "$gates/open-3" "$gates/open-4"
  if [ -n "$daemons" ]; then
    [ $status = 0 ] || [ $status = 77 ] || show
    scancel --full --user="$(id -un)" 2>/dev/null || true
    until_true 100 no_job || true
    # shellcheck disable=SC2086 # a list
    kill $daemons 2>/dev/null || true
    wait
  fi
  rm -rf "$work"
  exit "$status"
}
not_run() {
  echo "NOT RUN: $1"
  missing=yes
}
fail() {
  echo "tests/cluster.sh: $1" >&2
  exit 1
}
# What there is to see of a failure.
show() {
  squeue --all >&2 || true
  tail -n 10 "$work"/*.log "$work"/submit/* >&2
}
# Runs a command until it succeeds, ten times a second, at most $1 times.
until_true() {
  left=$1
  shift
  until "$@"; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || return 1
    sleep 0.1
  done
}
await() {
  until_true 600 "$@" || fail "not so within a minute: $*"
}
is_installed() {
  command -v "$1" >/dev/null
}
# The fenced block number $2 of language $1 in docs/cluster.md.
block() {
  awk -v language="$1" -v number="$2" '
    $0 == "```" { inside = 0 }
    inside { print }
    $0 == "```" language { inside = ++count == number }' docs/cluster.md
}
# Two reports that are the same but for times and command line.
same_report() {
  "$python" tests/cluster/timeless.py "$1" >"$work/expected"
  "$python" tests/cluster/timeless.py "$2" >"$work/got"
  cmp "$work/expected" "$work/got" || fail "the merged report is not that of one run"
}

. tests/cluster/slurm.sh
. tests/cluster/kubernetes.sh

missing=
mkdir "$gates" "$work/submit" "$work/bin"
trap stop EXIT
trap 'exit 1' INT TERM
[ -x "$tq4" ] || fail "no program $tq4: build it, or name another"
ln -s "$tq4" "$work/bin/tq4"
PATH=$work/bin:$PATH
export GATES="$gates"
if "$python" -c 'import numpy, safetensors' 2>"$work/python.log"; then
  "$python" tests/cluster/models.py "$work"
  tq4 quantize --source-model "$work/source" --output "$work/tq4" >"$work/quantize.log"
  if is_installed munged && is_installed slurmctld && is_installed slurmd && is_installed sbatch; then
    start_slurm
    run_array
  else
    not_run "the Slurm array: Debian's slurmctld, slurmd, slurm-client and munge are not here"
  fi
  if "$python" -c 'import kubernetes_validate' 2>"$work/python.log"; then
    check_job
    run_job
  else
    not_run "the Kubernetes job: pip install kubernetes-validate"
  fi
else
  not_run "docs/cluster.md: no Python with NumPy and safetensors; name one by TQ4_PYTHON"
fi
[ -z "$missing" ] || [ -z "${TQ4_REQUIRE:-}" ] || exit 1
[ -z "$missing" ] || exit 77
