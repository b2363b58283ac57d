#!/usr/bin/env bash
# Trains on a Cloud TPU slice: creates it, installs this commit on every worker, runs, follows the log of
# worker 0, starts again after a preemption, and deletes the slice at the end.
#
#   bash launch/tpu_pod.sh --name=apprentice --zone=us-west4-a --type=v5litepod-16 \
#       --config=configs/imagenet.py:scheme=A,precision=8A4W --workdir=gs://BUCKET/runs/a \
#       --data_dir=gs://BUCKET/tfds -- --config.seed=1
#
# Fill in:
#   --name      of the slice; one that exists is not touched (choose another, or delete it)
#   --zone      must offer the type, and your project must have quota for it, else creation fails
#   --type      v5litepod-16, v6e-16, v4-32, ...: `apprentice plan --topology=...` says what it would take
#   --workdir   gs://BUCKET/PATH, mounted on every worker with gcsfuse. The same path continues a run. A bucket
#               in another region costs transfer for every checkpoint.
#   --data_dir  the same, for data; or a path that is on every worker already
#   --config    of the training; what follows -- goes to `apprentice train` too
# Optional:
#   --version   of the TPU VM's software; default by the type. A wrong one shows only when jax finds no TPU.
#   --project   default: gcloud's own
#   --spot      cheaper, and may be taken away at any time; the run continues on a new slice
#   --queued    wait in line for capacity (a queued resource) instead of failing when there is none
#   --keep      do not delete the slice at the end: IT COSTS MONEY, BY THE CHIP AND THE HOUR, UNTIL YOU DO
#   --dry-run   print every command, run none
#
# A slice is paid for from creation to deletion, whether it computes or not. If this script itself is killed
# with SIGKILL, or its machine stops, the slice stays: see `gcloud compute tpus tpu-vm list --zone=ZONE`.
# The workers' service account must be allowed to write to the bucket. Needs gcloud, git and tar here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "tpu_pod.sh: $*" >&2; exit 2; }

name="" zone="" type="" version="" project="" config="" workdir="" data_dir=""
spot="" queued="" keep="" dry="" extra=()
while [ $# -gt 0 ]; do
  case "$1" in
    --name=*|--zone=*|--type=*|--version=*|--project=*|--config=*|--workdir=*|--data_dir=*)
      key=${1%%=*}; printf -v "${key#--}" '%s' "${1#*=}" ;;
    --spot) spot=1 ;;
    --queued) queued=1 ;;
    --keep) keep=1 ;;
    --dry-run) dry=1 ;;
    --) shift; extra=("$@"); break ;;
    *) fail "unknown argument $1: what is for the training comes after --, and see the head of this file." ;;
  esac
  shift
done
for key in name zone type config workdir data_dir; do
  [ -n "${!key}" ] || fail "--$key=... is missing: see the head of this file."
done
case "$workdir" in gs://?*/?*) ;; *) fail "--workdir is $workdir: it must be gs://BUCKET/PATH, so that it outlives the slice." ;; esac
[ -f "${config%%:*}" ] || [ -f "configs/${config%%:*}.py" ] || fail "--config is $config: there is no file ${config%%:*}."
[ -n "$dry" ] || command -v gcloud >/dev/null || fail "gcloud is not installed: https://cloud.google.com/sdk/docs/install"
if [ -z "$version" ]; then
  case "$type" in
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    *) version="tpu-ubuntu2204-base" ;;
  esac
fi
# What runs is a commit, which the log names; changes that are in no commit would be in no record either.
[ -z "$(git status --porcelain --untracked-files=no)" ] ||
  fail "there are changes that are not committed: commit or stash them, so that what runs can be told."

where=(--zone="$zone" ${project:+--project="$project"})
tpu=(gcloud compute tpus tpu-vm)
queue=(gcloud compute tpus queued-resources)
poll=${APPRENTICE_POLL_SECONDS:-30}   # between looks at a queue, and before another attempt
restarts=${APPRENTICE_RESTARTS:-100}  # of a run, at most

shown() { printf '+'; printf ' %q' "$@"; printf '\n'; } >&2
run() { shown "$@"; [ -n "$dry" ] || "$@"; }
ask() { [ -n "$dry" ] && { shown "$@"; return; }; "$@"; }
on() { run "${tpu[@]}" ssh "$name" "${where[@]}" --worker="$1" --command="$2"; }

created=""
create() {
  created=1  # before: a failed creation may leave something
  if [ -n "$queued" ]; then
    # "|| return": where a function's failure is looked at, bash does not end at a failing command inside.
    run "${queue[@]}" create "$name" --node-id="$name" "${where[@]}" --accelerator-type="$type" \
      --runtime-version="$version" ${spot:+--spot} || return 1
    while [ -z "$dry" ]; do
      local state
      state=$("${queue[@]}" describe "$name" "${where[@]}" --format='value(state.state)')
      echo "queued resource $name: $state" >&2
      case "$state" in
        ACTIVE) break ;;
        FAILED|SUSPENDED) return 1 ;;
      esac
      sleep "$poll"
    done
  else
    run "${tpu[@]}" create "$name" "${where[@]}" --accelerator-type="$type" --version="$version" \
      ${spot:+--spot}
  fi
}

delete() {
  if [ -n "$queued" ]; then
    run "${queue[@]}" delete "$name" "${where[@]}" --force --quiet || return 1
  else
    run "${tpu[@]}" delete "$name" "${where[@]}" --quiet || return 1
  fi
  created=""
}

temporary=$(mktemp -d)
# shellcheck disable=SC2329  # the trap calls it
finish() {
  local status=$?
  trap '' INT TERM  # nothing stops the deletion
  rm -rf "$temporary"
  [ -n "$created" ] || exit "$status"
  if [ -n "$keep" ]; then
    local what=tpu-vm
    [ -z "$queued" ] || what="queued-resources"
    echo "tpu_pod.sh: $name in $zone still runs and costs money. To delete it:" \
      "gcloud compute tpus $what delete $name --zone=$zone" >&2
  else
    delete || echo "tpu_pod.sh: $name in $zone COULD NOT BE DELETED and costs money: delete it by hand." >&2
  fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Everything that the workers need, in two files: quoting that survives ssh is not to be relied on.
run git archive --format=tar.gz --output="$temporary/apprentice.tar.gz" HEAD
{
  printf 'workdir=%q\ndata_dir=%q\narguments=(' "$workdir" "$data_dir"
  printf ' %q' --config="$config" ${extra[@]+"${extra[@]}"}
  printf ' )\n'
} > "$temporary/run.conf"
cp launch/pod_worker.sh "$temporary/"

install() {
  run "${tpu[@]}" scp "$temporary/apprentice.tar.gz" "$temporary/run.conf" "$temporary/pod_worker.sh" \
    "$name:" "${where[@]}" --worker=all && on all 'bash pod_worker.sh install'
}

# 0 finished, 2 wrong, 75 to be started again (so is what a signal ended); of all workers' statuses, a line each.
outcome() {
  local worst=0 word status
  while read -r word status; do
    [ "$word" = status ] || continue
    if [ "$status" -gt 128 ] && [ "$status" != 130 ]; then status=75; fi
    case "$status" in
      0) ;;
      75) [ "$worst" = 2 ] || worst=75 ;;
      *) worst=2 ;;
    esac
  done
  echo "$worst"
}

# Whether the slice was taken away. A failure to ask is none of its own: asked again.
gone() {
  local state try
  [ -z "$dry" ] || return 1
  for ((try = 0; try < 20; try++)); do
    if state=$("${tpu[@]}" describe "$name" "${where[@]}" --format='value(state)' 2>"$temporary/describe"); then
      case "$state" in
        READY) return 1 ;;
        PREEMPTED|TERMINATED|STOPPED|STOPPING|DELETING|SUSPENDED) return 0 ;;
      esac
    elif grep -q NOT_FOUND "$temporary/describe"; then
      return 0
    fi
    sleep "$poll"
  done
  cat "$temporary/describe" >&2
  fail "gcloud does not say whether $name is there: last it said '$state'."
}

# One attempt: 0 finished, 2 wrong, 75 to be tried again.
attempt() {
  local statuses
  on all 'bash pod_worker.sh start' || true  # why it failed the status says
  on 0 'bash pod_worker.sh follow' || true  # ends with the run, or with the connection
  # Waits for every worker's end; what cannot be reached may be gone.
  statuses=$(ask "${tpu[@]}" ssh "$name" "${where[@]}" --worker=all --command='bash pod_worker.sh wait') || return 75
  return "$(outcome <<< "$statuses")"
}

create || exit 1
installed=""
for ((number = 0; number <= restarts; number++)); do
  status=75
  if [ -n "$installed" ] || install; then
    installed=1 status=0
    attempt || status=$?
  elif [ "$number" -ge 5 ]; then
    fail "the workers cannot be set up: see above."
  fi
  case "$status" in
    0) echo "tpu_pod.sh: finished; the run is in $workdir" >&2; exit 0 ;;
    2) echo "tpu_pod.sh: the run failed; its sentence is above, or in train.log of another worker" >&2; exit 2 ;;
  esac
  sleep "$poll"
  if gone; then
    echo "tpu_pod.sh: $name was taken away: creating it anew" >&2
    delete || true
    create || exit 1
    installed=""
  fi
  echo "tpu_pod.sh: starting the run again" >&2
done
fail "started again $restarts times without an end: see the log."
