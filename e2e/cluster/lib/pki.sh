# shellcheck shell=bash
# Certificates and kubeconfigs, all from one throw-away CA in $RUN/pki.

PKI=$RUN/pki
EC=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

pki_create() {
  local node
  (umask 077 && mkdir -p "$PKI")
  openssl req -x509 "${EC[@]}" -keyout "$PKI/ca.key" -out "$PKI/ca.crt" -days 365 -subj /CN=berth-e2e 2>/dev/null
  openssl genrsa -out "$PKI/service-accounts.key" 2048 2>/dev/null
  openssl rsa -in "$PKI/service-accounts.key" -pubout -out "$PKI/service-accounts.pub" 2>/dev/null
  certificate kube-apiserver /CN=kube-apiserver "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:$CONTROL_PLANE"
  certificate kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate front-proxy-client /CN=front-proxy-client
  identity admin /O=system:masters/CN=admin
  identity controller-manager /CN=system:kube-controller-manager
  identity scheduler /CN=system:kube-scheduler
  identity kube-proxy /CN=system:kube-proxy
  identity coredns /CN=system:coredns
  for node in "${NODES[@]}"; do
    identity "$node" "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:10.100.0.1${node#node}"
  done
}

# certificate NAME SUBJECT [SUBJECT-ALT-NAMES]
certificate() {
  openssl req "${EC[@]}" -keyout "$PKI/$1.key" -out "$PKI/$1.csr" -subj "$2" 2>/dev/null
  printf '%s\n' 'extendedKeyUsage = serverAuth, clientAuth' ${3:+"subjectAltName = $3"} >"$PKI/$1.ext"
  openssl x509 -req -in "$PKI/$1.csr" -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -days 365 \
    -extfile "$PKI/$1.ext" -out "$PKI/$1.crt" 2>/dev/null
  rm "$PKI/$1.csr" "$PKI/$1.ext"
}

# identity NAME SUBJECT [SUBJECT-ALT-NAMES]: a certificate and the kubeconfig that uses it.
identity() {
  certificate "$@"
  (umask 077 && cat >"$RUN/$1.kubeconfig") <<YAML
apiVersion: v1
kind: Config
current-context: berth-e2e
contexts: [{name: berth-e2e, context: {cluster: berth-e2e, user: $1}}]
clusters:
- name: berth-e2e
  cluster: {server: "https://$CONTROL_PLANE:6443", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$PKI/$1.crt"), client-key-data: $(base64 -w0 "$PKI/$1.key")}
YAML
}
