# shellcheck shell=sh disable=SC2154 # variables of tests/cluster.sh, which reads this file
# A Slurm of its own, and the array of docs/cluster.md on it.

state_is() {
  scontrol --oneliner show job "$1" 2>/dev/null | grep -q "JobState=$2 "
}
no_job() {
  [ -z "$(squeue --noheader --all)" ]
}
is_gone() {
  ! kill -0 "$1" 2>/dev/null
}
# A part with a tensor and without a summary: its task is in the midst of it.
in_the_midst() {
  grep -q '^{"record":"tensor"' "$1" && ! grep -q '^{"record":"summary"' "$1"
}

# Munge, slurmctld and slurmd of this user, on free ports, with a GPU for each of four tasks that is none.
start_slurm() {
  mkdir "$work/munge" "$work/state" "$work/spool"
  # Munge wants a socket that all may reach.
  chmod 755 "$work" "$work/munge"
  (umask 077 && head -c 1024 /dev/urandom >"$work/munge.key")
  munged --foreground --key-file="$work/munge.key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
    --log-file="$work/munge/log" --seed-file="$work/munge/seed" 2>"$work/munge.log" &
  daemons="$!"
  "$python" - >"$work/ports" <<'PYTHON'
import socket

held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in held))
PYTHON
  read -r controller_port node_port <"$work/ports"
  cat >"$work/slurm.conf" <<CONF
ClusterName=tq4
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmdPort=$node_port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# A requeued task waits for so many seconds.
AuthInfo=socket=$work/munge/socket,cred_expire=5
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmdParameters=config_overrides
MailProg=/bin/true
KillWait=5
GresTypes=gpu
NodeName=node NodeHostname=$host NodeAddr=127.0.0.1 CPUs=4 Gres=gpu:4
PartitionName=all Nodes=ALL Default=YES
CONF
  for gpu in 0 1 2 3; do
    ln -s /dev/null "$work/gpu$gpu"
  done
  echo "Name=gpu File=$work/gpu[0-3]" >"$work/gres.conf"
  export SLURM_CONF="$work/slurm.conf"
  until_true 50 test -S "$work/munge/socket" || fail "munged did not start"
  slurmctld -D >"$work/slurmctld.log" 2>&1 &
  daemons="$daemons $!"
  slurmd -D >"$work/slurmd.log" 2>&1 &
  daemons="$daemons $!"
  await node_is_idle
}
node_is_idle() {
  [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ]
}
# Submits what $work/submit has; the numbers of the array and of the merge are $array and $merge.
submit() {
  (cd "$work/submit" && sh -euc '. ./submit.sh; echo "the array: $job"') >"$work/submitted"
  array=$(sed -n 's/^the array: //p' "$work/submitted")
  merge=$(sed -n 's/^Submitted batch job //p' "$work/submitted")
}
all_completed() {
  await no_job
  for job in "${array}_1" "${array}_2" "${array}_3" "${array}_4" "$merge"; do
    state_is "$job" COMPLETED || fail "job $job did not end well: $(scontrol --oneliner show job "$job")"
  done
}
run_array() {
  # The lanes in place of CUDA: the reference, and a program that waits in the midst of its part.
  kernel="gated=$python $repository/tests/cluster/gated_kernel.py"
  lanes="--lanes reference --exec 'gated=$python $repository/tests/cluster/gated_kernel.py'"
  tq4 validate --all --tq-model "$work/tq4" --source-model "$work/source" --lanes reference --exec "$kernel" \
    --report "$work/one-run.jsonl" >"$work/one-run.log"
  block sh 1 >"$work/submit/array.sh"
  block sh 2 | sed "s#/shared/#$work/#g
    s#sbatch --parsable array.sh --require cuda#sbatch --parsable --array=1-4 array.sh $lanes#" >"$work/submit/submit.sh"
  grep -q 'array=1-4' "$work/submit/submit.sh" || fail "docs/cluster.md submits the array in another way"
  submit
  for task in 1 2 3 4; do
    await test -e "$gates/waiting-$task"
    await in_the_midst "$work/out/part-$task.jsonl"
  done

  # Task 2 is requeued as by preemption; the out-of-memory killer's signal ends task 3, which is requeued by hand.
  scontrol requeue "${array}_2"
  await state_is "${array}_2" PENDING
  await is_gone "$(cat "$gates/waiting-2")"
  kill -KILL "$(cat "$gates/waiting-3")"
  await state_is "${array}_3" FAILED
  for task in 2 3; do
    in_the_midst "$work/out/part-$task.jsonl" || fail "task $task was not stopped in the midst of its part"
    cp "$work/out/part-$task.jsonl" "$work/killed-$task.jsonl"
  done
  scontrol requeue "${array}_3"
  state_is "$merge" PENDING || fail "the merge did not wait for the array"
  touch "$gates/open-1" "$gates/open-2" "$gates/open-3" "$gates/open-4"
  all_completed

  # Each log begins with how the task was ended.
  set -- 'DUE TO JOB REQUEUE' 'Killed'
  for task in 2 3; do
    log=$work/submit/slurm-${array}_$task.out
    grep -q "$1" "$log" || fail "the log of task $task lacks its beginning"
    grep -Eq '^resuming: [1-9][0-9]* tensors? (is|are) done, [1-9][0-9]* (is|are) left$' "$log" || fail "task $task was not resumed"
    shift
    # The last line of one that was killed may be torn.
    sed '$d' "$work/killed-$task.jsonl" >"$work/kept"
    head -c "$(wc -c <"$work/kept")" "$work/out/part-$task.jsonl" | cmp - "$work/kept" ||
      fail "task $task did again what was done"
  done
  same_report "$work/one-run.jsonl" "$work/out/sweep.jsonl"

  # Once more, all of it: nothing is left to do.
  mkdir "$work/first"
  cp "$work/out"/* "$work/first"
  submit
  all_completed
  for task in 1 2 3 4; do
    cmp "$work/first/part-$task.jsonl" "$work/out/part-$task.jsonl" || fail "part $task was done again"
  done
  same_report "$work/one-run.jsonl" "$work/out/sweep.jsonl"
  echo "slurm: $(slurmctld -V), 4 tasks, 1 requeued, 1 killed; the merge is the report of one run"
}
