# shellcheck shell=bash
# Ends a cluster, whole or half, running or left over from a crash or a reboot.

MARK=.made-by-berth-e2e # in $RUN and $DATA; without it their content is not ours to remove

leftovers() {
  [ -e "$RUN" ] || [ -e "$DATA" ] || [ -e "/sys/class/net/$BRIDGE" ] || [ -d "$CGROUP_TRACKER/$CGROUP" ]
}

teardown() {
  local folder
  for folder in "$RUN" "$DATA"; do
    [ ! -e "$folder" ] || [ -e "$folder/$MARK" ] || die "$folder exists and was not made by up; it stays"
  done
  bridge_check
  cgroup_kill ''
  cgroup_remove ''
  # The nodes' mounts lived in their mount namespaces, which end with the last process and these files.
  if mountpoint -q "$RUN/ns"; then umount -R "$RUN/ns"; fi
  network_remove
  inotify_restore
  rm -rf --one-file-system "$RUN" "$DATA"
}
