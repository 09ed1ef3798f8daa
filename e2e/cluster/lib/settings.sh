# shellcheck shell=bash
# shellcheck disable=SC2034  # read by the scripts that source this file
# The names, folders and addresses that the scripts here share, and how they speak.

RUN=${BERTH_E2E_RUN:-/run/berth-e2e}        # keys, kubeconfigs, pids, logs, namespaces
DATA=${BERTH_E2E_DATA:-/var/lib/berth-e2e}  # etcd, volumes, the nodes' disks: too much for a /run that is a tmpfs
EMULATED_VERSION=${BERTH_E2E_EMULATED_VERSION:-}

NODES=(node1 node2 node3)

BRIDGE=berth-e2e
NODE_RANGE=10.100.0.0/24     # nodeN is 10.100.0.1N
POD_RANGE=10.244.0.0/16      # pods of nodeN: 10.244.N.0/24
SERVICE_RANGE=10.96.0.0/16
CONTROL_PLANE=10.100.0.1     # the machine, seen from the nodes: API server and cluster DNS
SITE_DNS=10.100.0.2          # the nodes' own name server, which knows no name at all
ETCD=127.100.0.1             # a loopback address of its own, so that an etcd of the user's may keep 127.0.0.1

export KUBECONFIG=$RUN/admin.kubeconfig

say() { echo "${0##*/}: $*" >&2; }
die() { say "$*"; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "must run as root: it makes network and mount namespaces, cgroups and a bridge"; }

# One up or down at a time. The lock is on the folder above $RUN, so it leaves no file; daemons must not inherit fd 9.
take_turn() {
  exec 9<"$(dirname "$RUN")"
  flock -n 9 || { say "waiting for another up or down to finish"; flock 9; }
}

# wait_for SECONDS WHAT COMMAND...: until COMMAND succeeds.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || die "gave up waiting for $what; see the logs in $RUN/log"
    sleep 0.3
  done
}
