#!/usr/bin/env bash
# What tpu_pod.sh runs on each worker, in its home: pod_worker.sh install | start | follow | wait
set -Eeuo pipefail
cd ~
workdir="" data_dir="" arguments=()
# shellcheck source=/dev/null
source ./run.conf

# gs://BUCKET/PATH as the path at which the bucket is mounted; anything else as it is.
place() {
  case "$1" in
    gs://*) local rest=${1#gs://}; echo "$HOME/buckets/$rest" ;;
    *) echo "$1" ;;
  esac
}

mount_bucket() {
  case "$1" in gs://*) ;; *) return 0 ;; esac
  local bucket=${1#gs://}
  bucket=${bucket%%/*}
  mkdir -p "$HOME/buckets/$bucket"
  if mountpoint -q "$HOME/buckets/$bucket"; then return 0; fi
  # A checkpoint gets its final name by renaming a folder; and what one worker writes, others must see.
  gcsfuse --implicit-dirs --rename-dir-limit=1000000 --metadata-cache-ttl-secs=0 "$bucket" "$HOME/buckets/$bucket"
}

case "$1" in
  install)
    if ! command -v gcsfuse >/dev/null; then
      echo "deb [signed-by=/usr/share/keyrings/gcsfuse.asc] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -c -s) main" |
        sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
      curl -fsS https://packages.cloud.google.com/apt/doc/apt-key.gpg | sudo tee /usr/share/keyrings/gcsfuse.asc >/dev/null
      sudo apt-get update -qq && sudo apt-get install -y -qq gcsfuse
    fi
    rm -rf apprentice && mkdir apprentice && tar xzf apprentice.tar.gz -C apprentice
    # The image's Python is older than 3.11.
    [ -x venv/bin/python ] || { python3 -m pip install --quiet --user uv && ~/.local/bin/uv venv --quiet --python 3.12 venv; }
    ~/.local/bin/uv pip install --quiet --python venv/bin/python './apprentice[tpu]'
    ;;
  start)
    # After a connection that broke the run may still be there.
    [ ! -f train.pid ] || [ -f train.status ] || ! kill -0 "$(cat train.pid)" 2>/dev/null || exit 0
    rm -f train.status
    trap 'echo 2 > train.status' ERR  # what fails here, such as a bucket that may not be read, would fail again
    mount_bucket "$workdir"
    mount_bucket "$data_dir"
    # Not a child of this connection: it may break, and the run goes on.
    # shellcheck disable=SC2016  # expanded by the inner shell
    setsid nohup bash -c 'cd apprentice; ../venv/bin/python -u -m apprentice_jax train "$@"; echo $? > ~/train.status' \
      train "${arguments[@]}" --config.data.dir="$(place "$data_dir")" --workdir="$(place "$workdir")" \
      > train.log 2>&1 < /dev/null &
    echo $! > train.pid
    ;;
  follow)
    exec tail -n +1 -F --pid="$(cat train.pid)" train.log 2>/dev/null
    ;;
  wait)
    while [ ! -f train.status ] && kill -0 "$(cat train.pid 2>/dev/null)" 2>/dev/null; do sleep 0.2; done
    # No status: it was not started, or was killed with all that belongs to it.
    echo "status $(cat train.status 2>/dev/null || echo 75)"
    ;;
  *)
    echo "pod_worker.sh: install, start, follow or wait" >&2
    exit 2
    ;;
esac
