# shellcheck shell=bash
# Debian packages that the cluster and the builds of its parts need.

PACKAGES=(busybox-static ca-certificates conntrack containernetworking-plugins gcc iproute2 iptables libc6-dev libseccomp-dev
  nftables openssl pkg-config python3)

packages_install() {
  local missing=() package
  for package in "${PACKAGES[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing Debian packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}"; } >&2
}
