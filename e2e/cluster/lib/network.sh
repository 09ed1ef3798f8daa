# shellcheck shell=bash
# The machine's side of the network: one bridge that carries the nodes, and routes to pods and Services through them.

# A bridge of our name is ours only if it carries $RUN as its alias.
bridge_check() {
  [ ! -e "/sys/class/net/$BRIDGE" ] || [ "$(cat "/sys/class/net/$BRIDGE/ifalias")" = "$RUN" ] ||
    die "a network interface $BRIDGE exists and does not belong to $RUN; remove it, or run down with its BERTH_E2E_RUN"
}

# Refuses address ranges that this machine already routes somewhere.
ranges_check() {
  local range how route
  for range in "$NODE_RANGE" "$POD_RANGE" "$SERVICE_RANGE"; do
    for how in root match; do # root: routes inside the range; match: routes that contain it
      route=$(ip -4 route show $how "$range" | grep -v -e '^default' -e " dev $BRIDGE" | head -1 || true)
      [ -z "$route" ] || die "the cluster needs $range, but this machine already has the route: $route"
    done
  done
}

network_create() {
  local n
  ip link add "$BRIDGE" type bridge
  ip link set "$BRIDGE" alias "$RUN" up
  ip addr add "$CONTROL_PLANE/24" dev "$BRIDGE"
  ip addr add "$SITE_DNS/24" dev "$BRIDGE"
  for n in "${NODES[@]#node}"; do ip route add "10.244.$n.0/24" via "10.100.0.1$n"; done
  # The machine uses ClusterIPs as any outsider would: through a node, whose kube-proxy translates and masquerades.
  ip route add "$SERVICE_RANGE" via 10.100.0.11
}

network_remove() {
  [ ! -e "/sys/class/net/$BRIDGE" ] || ip link del "$BRIDGE" # its addresses and routes go with it
}

# Three kubelets and their pods need more inotify instances than the usual 128. `down` puts the old value back.
inotify_raise() {
  local file=/proc/sys/fs/inotify/max_user_instances
  cat $file >"$RUN/inotify-before"
  [ "$(cat $file)" -ge 8192 ] || echo 8192 >$file
}

inotify_restore() {
  [ ! -f "$RUN/inotify-before" ] || cat "$RUN/inotify-before" >/proc/sys/fs/inotify/max_user_instances
}
