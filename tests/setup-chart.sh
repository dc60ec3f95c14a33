#!/bin/sh
# Builds what `make chart` needs with Go into the folder $1: Helm, kube-score, actionlint, Kubernetes' API server with
# etcd, and kubectl. Gets the resource definitions of the Prometheus operator and of KServe. Needs Go 1.25 or later.
set -eu
mkdir -p "$1"
command -v go >/dev/null || { echo "make chart needs Go, which is not installed" >&2; exit 1; }
GOBIN=$(cd "$1" && pwd)
export GOBIN
build() { [ -x "$GOBIN/$1" ] || go install -trimpath -ldflags "${3:-}" "$2"; }
# Helm renders for the Kubernetes that it was told of when it was built, else for one that the chart refuses.
kubernetes=helm.sh/helm/v3/pkg/chartutil.k8sVersion
build helm helm.sh/helm/v3/cmd/helm@v3.22.0 "-X ${kubernetes}Major=1 -X ${kubernetes}Minor=34"
build kube-score github.com/zegl/kube-score/cmd/kube-score@v1.20.0
build actionlint github.com/rhysd/actionlint/cmd/actionlint@v1.7.8

# KServe's own Python models of its resources, in an environment of their own.
[ -x "$GOBIN/kserve/bin/kserve-python" ] || {
    "${PYTHON:-python3}" -m venv "$GOBIN/kserve"
    "$GOBIN/kserve/bin/python" -m pip install --quiet kserve==0.21.0
    ln -s python "$GOBIN/kserve/bin/kserve-python"
}

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
fetched() { (cd "$work" && go mod download -json "$1" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'); }

operator=github.com/prometheus-operator/prometheus-operator@v0.85.0
[ -d "$GOBIN/crds" ] || {
    cp -r "$(fetched "$operator")/example/prometheus-operator-crd" "$work/crds"
    chmod -R u+w "$work/crds" # what Go keeps is read-only, and who is not root cannot move that
    mv "$work/crds" "$GOBIN/crds"
}

# Kubernetes names its own modules by places in its repository, which are not in what the proxy has.
if [ ! -x "$GOBIN/kube-apiserver" ] || [ ! -x "$GOBIN/etcd" ] || [ ! -x "$GOBIN/kubectl" ]; then
    cp -r "$(fetched k8s.io/kubernetes@v1.34.2)" "$work/kubernetes"
    chmod -R u+w "$work/kubernetes"
    cd "$work/kubernetes"
    rm -rf vendor go.work go.work.sum
    sed -i 's|=> ./staging/src/\(k8s.io/[a-z-]*\)|=> \1 v0.34.2|' go.mod
    version=k8s.io/component-base/version.gitVersion=v1.34.2 # by which Helm knows what it talks to
    GOFLAGS=-mod=mod go build -trimpath -ldflags "-X $version" -o "$GOBIN/kube-apiserver" ./cmd/kube-apiserver
    GOFLAGS=-mod=mod go build -trimpath -o "$GOBIN/etcd" go.etcd.io/etcd/server/v3
    GOFLAGS=-mod=mod go build -trimpath -ldflags "-X $version" -o "$GOBIN/kubectl" ./cmd/kubectl
fi
