# shellcheck shell=sh disable=SC2154 # variables of tests/cluster.sh, which reads this file
# The indexed job of docs/cluster.md: valid by its schema, and right in what its command makes of exit codes.

validate() {
  "$python" -m kubernetes_validate --strict --quiet "$1"
}
# The job as it stands is valid; with an unknown key, a value of another type or a part left out it is not. The schema does
# not list the values of `completionMode`: that is held to what the script below does, by container.py.
check_job() {
  block yaml 1 >"$work/job.yaml"
  validate "$work/job.yaml" || fail "the job is not valid"
  for mistake in s/backoffLimit:/backofLimit:/ 's/completions: 8/completions: eight/' s/restartPolicy:/restart:/ \
    s/containers:/container:/ s/claimName:/claim:/; do
    sed "$mistake" "$work/job.yaml" >"$work/mistake.yaml"
    ! cmp -s "$work/job.yaml" "$work/mistake.yaml" || fail "no such place in the job: $mistake"
    ! validate "$work/mistake.yaml" >"$work/mistake.log" 2>&1 || fail "a job with a mistake is valid: $mistake"
  done
}
# The pod of index $1 in a volume $2, with $3 for the lanes that it requires.
run_pod() {
  "$python" tests/cluster/container.py "$work/job.yaml" "$3" "$2" >"$work/command" ||
    fail "the job's container is another than this script knows"
  JOB_COMPLETION_INDEX=$1 sh "$work/command" >"$work/pod.log" 2>&1
}
# A volume $1 with the model and, for its source, $2.
volume() {
  mkdir "$work/$1"
  ln -s "$work/tq4" "$work/$1/tq4"
  ln -s "$work/$2" "$work/$1/source"
}
run_job() {
  volume data source
  for index in 0 1 2 3 4 5 6 7; do
    run_pod "$index" "$work/data" "--lanes reference" || fail "pod $index failed"
  done
  sh -euc "$(block sh 3 | sed "s#/data/#$work/data/#g")" >"$work/merge.log" || fail "the merge failed"
  tq4 validate --all --tq-model "$work/tq4" --source-model "$work/source" --lanes reference \
    --report "$work/one-run-of-reference.jsonl" >"$work/one-run.log"
  same_report "$work/one-run-of-reference.jsonl" "$work/data/out/sweep.jsonl"

  # A failed gate ends a pod well; a card that is not there and bad usage do not.
  volume negated-data negated
  run_pod 0 "$work/negated-data" "--lanes reference" || fail "a pod whose gates failed did not end well"
  grep -q '"outcome":"failed"' "$work/negated-data/out/part-1.jsonl" || fail "no gate failed"
  volume cardless source
  ! run_pod 0 "$work/cardless" "--require cuda --cuda-device 99" || fail "a pod without a card ended well"
  grep -q 'required' "$work/pod.log" || fail "the card was not required"
  ! run_pod 0 "$work/data" "--no-such-option" || fail "a pod with bad usage ended well"
  grep -q 'no-such-option' "$work/pod.log" || fail "the option was not refused"
  echo "kubernetes: the job is valid, its command ran for 8 parts, the merge is the report of one run"
}
