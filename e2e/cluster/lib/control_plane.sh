# shellcheck shell=bash
# etcd, kube-apiserver, kube-controller-manager, kube-scheduler and CoreDNS, as processes of the machine itself: no fault
# that a test puts on a node takes them away.

control_plane_start() {
  local emulate=()
  [ -z "$EMULATED_VERSION" ] || emulate=(--emulated-version="$EMULATED_VERSION")
  mkdir -p "$DATA/etcd" "$RUN/audit"
  cgroup_create control-plane/system

  # Nothing here must survive a power cut, so nothing waits for the disk.
  daemon control-plane etcd etcd --data-dir="$DATA/etcd" --unsafe-no-fsync --log-level=warn \
    --listen-client-urls="http://$ETCD:2379" --advertise-client-urls="http://$ETCD:2379" --listen-peer-urls="http://$ETCD:2380"

  daemon control-plane kube-apiserver kube-apiserver "${emulate[@]}" \
    --etcd-servers="http://$ETCD:2379" --service-cluster-ip-range="$SERVICE_RANGE" \
    --bind-address="$CONTROL_PLANE" --advertise-address="$CONTROL_PLANE" --secure-port=6443 \
    --tls-cert-file="$PKI/kube-apiserver.crt" --tls-private-key-file="$PKI/kube-apiserver.key" \
    --client-ca-file="$PKI/ca.crt" --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --kubelet-client-certificate="$PKI/kubelet-client.crt" --kubelet-client-key="$PKI/kubelet-client.key" \
    --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$PKI/ca.crt" --requestheader-allowed-names=front-proxy-client \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$PKI/front-proxy-client.crt" --proxy-client-key-file="$PKI/front-proxy-client.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local \
    --service-account-key-file="$PKI/service-accounts.pub" --service-account-signing-key-file="$PKI/service-accounts.key" \
    --audit-policy-file="$HERE/conf/audit-policy.yaml" --audit-log-path="$RUN/audit/audit.log" --audit-log-maxsize=1000 \
    --allow-privileged=true
  wait_for 180 "the API server" kubectl get --raw /readyz
  kubectl apply -f "$HERE/conf/objects.yaml" >/dev/null

  # The host-path provisioner makes /tmp/hostpath_pv/<uid> with mode 0750, and a kubelet applies no fsGroup to host paths.
  # So the process runs as the uid that Berth's pods have and owns what it makes; the capabilities let it delete anybody's
  # files. Its /tmp is the one that the nodes see.
  # shellcheck disable=SC2016  # expanded by the inner shell
  daemon control-plane kube-controller-manager unshare --mount --propagation private \
    bash -euc 'mount --bind "$1" /tmp; shift; exec "$@"' - "$DATA/tmp" \
    setpriv --reuid=65532 --regid=65532 --clear-groups --inh-caps=+dac_override,+fowner --ambient-caps=+dac_override,+fowner \
    kube-controller-manager "${emulate[@]}" --kubeconfig="$RUN/controller-manager.kubeconfig" \
    --bind-address="$CONTROL_PLANE" --leader-elect=false --use-service-account-credentials \
    --authentication-kubeconfig="$RUN/controller-manager.kubeconfig" \
    --authorization-kubeconfig="$RUN/controller-manager.kubeconfig" \
    --root-ca-file="$PKI/ca.crt" --service-account-private-key-file="$PKI/service-accounts.key" \
    --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
    --allocate-node-cidrs=false --enable-hostpath-provisioner=true --flex-volume-plugin-dir="$RUN/flex-volumes"

  daemon control-plane kube-scheduler kube-scheduler "${emulate[@]}" --kubeconfig="$RUN/scheduler.kubeconfig" \
    --authentication-kubeconfig="$RUN/scheduler.kubeconfig" --authorization-kubeconfig="$RUN/scheduler.kubeconfig" \
    --bind-address="$CONTROL_PLANE" --leader-elect=false

  sed -e "s|@CONTROL_PLANE@|$CONTROL_PLANE|; s|@SITE_DNS@|$SITE_DNS|; s|@RUN@|$RUN|" "$HERE/conf/Corefile" >"$RUN/Corefile"
  daemon control-plane coredns coredns -conf "$RUN/Corefile"
}
