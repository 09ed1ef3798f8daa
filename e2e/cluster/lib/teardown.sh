# shellcheck shell=bash
# Ends a cluster, whole or half, running or left over from a crash or a reboot.

MARK=.made-by-berth-e2e # in $RUN and $DATA

leftovers() {
  [ -e "$RUN" ] || [ -e "$DATA" ] || [ -e "/sys/class/net/$BRIDGE" ] || [ -d "$CGROUP_TRACKER/$CGROUP" ]
}

# Ours, or free to become ours.
folder_check() {
  [ ! -e "$1" ] || [ -e "$1/$MARK" ] || [ -z "$(ls -A "$1")" ] || die "$1 exists and was not made by up; it stays as it is"
}

teardown() {
  folder_check "$RUN"
  folder_check "$DATA"
  bridge_check
  cgroup_kill ''
  cgroup_remove ''
  # The nodes' mounts lived in their mount namespaces, which end with the last process and these files.
  if mountpoint -q "$RUN/ns"; then umount -R "$RUN/ns"; fi
  network_remove
  inotify_restore
  rm -rf --one-file-system "$RUN" "$DATA"
}
