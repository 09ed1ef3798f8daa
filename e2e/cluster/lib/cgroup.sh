# shellcheck shell=bash
# cgroups. Whatever `up` starts, and whatever that starts in turn (shims, pods), stays below the cgroup berth-e2e. So the
# cgroup is the list of what must be killed, and no pid that the kernel may have given to somebody else is ever trusted.
#
#   berth-e2e/control-plane/system    etcd, kube-apiserver, …
#   berth-e2e/nodeN/system            containerd, kubelet, kube-proxy, shims
#   berth-e2e/nodeN/pods              the kubelet's cgroupRoot

CGROUP=berth-e2e

if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
  CGROUP_HIERARCHIES=(/sys/fs/cgroup)
  CGROUP_TRACKER=/sys/fs/cgroup
else
  CGROUP_HIERARCHIES=()
  for _dir in /sys/fs/cgroup/*; do
    # With symbolic links cpu -> cpu,cpuacct, and a v2 tree beside the v1 ones that runc uses too.
    [ -L "$_dir" ] || [ ! -f "$_dir/cgroup.procs" ] || CGROUP_HIERARCHIES+=("$_dir")
  done
  CGROUP_TRACKER=/sys/fs/cgroup/pids
fi

# cgroup_create PATH: berth-e2e/PATH in every hierarchy, with every controller handed down.
cgroup_create() {
  local hierarchy parent part file controller
  for hierarchy in "${CGROUP_HIERARCHIES[@]}"; do
    parent=$hierarchy
    for part in $CGROUP ${1//\// }; do
      if [ -f "$hierarchy/cgroup.controllers" ]; then # v2: children get what the parent's subtree_control names
        tr ' ' '\n' <"$parent/cgroup.controllers" | while read -r controller; do
          echo "+$controller" >"$parent/cgroup.subtree_control" 2>/dev/null || true
        done
      fi
      mkdir -p "$parent/$part"
      if [ -f "$parent/$part/cpuset.mems" ] && [ ! -f "$hierarchy/cgroup.controllers" ]; then # v1: a new cpuset is empty
        for file in cpuset.cpus cpuset.mems; do cat "$parent/$file" >"$parent/$part/$file"; done
        echo 1 >"$parent/$part/cgroup.clone_children"
      fi
      parent=$parent/$part
    done
  done
}

# cgroup_kill PATH: until nothing is left below berth-e2e/PATH.
cgroup_kill() {
  local pids
  [ -d "$CGROUP_TRACKER/$CGROUP/$1" ] || return 0
  for _ in {1..100}; do
    pids=$(find "$CGROUP_TRACKER/$CGROUP/$1" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u || true)
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086  # a list
    kill -9 $pids 2>/dev/null || true
    sleep 0.1
  done
  die "processes in the cgroup $CGROUP/$1 outlive SIGKILL: ${pids//$'\n'/ }"
}

# cgroup_remove PATH: the empty berth-e2e/PATH from every hierarchy.
cgroup_remove() {
  local hierarchy
  for hierarchy in "${CGROUP_HIERARCHIES[@]}"; do
    [ ! -d "$hierarchy/$CGROUP/$1" ] || find "$hierarchy/$CGROUP/$1" -depth -type d -exec rmdir {} +
  done
}

# daemon GROUP NAME COMMAND...: starts COMMAND in berth-e2e/GROUP/system, logging to $RUN/log.
daemon() {
  local group=$1 name=$2
  shift 2
  mkdir -p "$RUN/pid/$group" "$RUN/log"
  (
    echo "$BASHPID" >"$CGROUP_TRACKER/$CGROUP/$group/system/cgroup.procs"
    echo "$BASHPID" >"$RUN/pid/$group/$name"
    exec setsid "$@"
  ) >>"$RUN/log/$group-$name.log" 2>&1 </dev/null 9<&- &
}

# alive GROUP: all daemons of GROUP run (and there is at least one).
alive() {
  local file
  for file in "$RUN/pid/$1"/*; do
    grep -qsxF "$(cat "$file" 2>/dev/null)" "$CGROUP_TRACKER/$CGROUP/$1/system/cgroup.procs" || return 1
  done
}
