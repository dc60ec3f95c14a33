#!/bin/sh
# Builds Helm, kube-score and actionlint with Go into the folder $1, for `make chart`. Needs Go 1.25 or later and some minutes.
set -eu
mkdir -p "$1"
command -v go >/dev/null || { echo "make chart needs Go, which is not installed" >&2; exit 1; }
GOBIN=$(cd "$1" && pwd)
export GOBIN
build() { [ -x "$GOBIN/$1" ] || nice go install -trimpath "$2"; }
build helm helm.sh/helm/v3/cmd/helm@v3.22.0
build kube-score github.com/zegl/kube-score/cmd/kube-score@v1.20.0
build actionlint github.com/rhysd/actionlint/cmd/actionlint@v1.7.8
