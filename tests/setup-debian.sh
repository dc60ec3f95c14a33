#!/bin/sh
# Installs the Debian packages that the integration tests talk to, where that is allowed (root and apt-get).
# Elsewhere it only says what is missing: the tests that need it skip, except in CI, where they fail.
set -eu
packages=""
need() { command -v "$1" >/dev/null || packages="$packages $2"; }
need promtool prometheus
need prometheus-alertmanager prometheus-alertmanager
need openssl openssl
need chromium chromium
need prometheus-node-exporter prometheus-node-exporter
need gcc "gcc libc6-dev"
need redis-server redis-server
need systemd-analyze systemd
need faketime faketime
[ -n "$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || packages="$packages postgresql"
need curl curl
need jq jq
need zsh zsh
need fish fish
need haproxy haproxy
[ -z "$packages" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Debian packages:$packages"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
else
    echo "not installed (tests that need them will skip):$packages" >&2
fi
