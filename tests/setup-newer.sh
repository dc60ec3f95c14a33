#!/bin/sh
# Build a Prometheus 3 and an Alertmanager newer than Debian's into a directory: tests/setup-newer.sh DIRECTORY
# Needs Go and its module proxy. Whoever puts DIRECTORY first on the PATH tests with them: `make newer`.
set -eu
prometheus=${PROMETHEUS_MODULE:-v0.315.0} # Prometheus 3.15.0: as a Go module 3.x is 0.3xx
alertmanager=${ALERTMANAGER_MODULE:-v0.34.2}

mkdir -p "$1"
directory=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A copy of a module's source: `go install MODULE@VERSION` refuses modules that replace others, as Prometheus does.
unpack() {
    source=$(go mod download -json "github.com/prometheus/$1@$2" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
    cp -r "$source" "$work/$1"
    chmod -R u+w "$work/$1"
    cd "$work/$1"
    export GOWORK=off # modules lack the examples that the workspace names
}

unpack prometheus "$prometheus"
go build -tags remove_all_sd -o "$directory/" ./cmd/prometheus ./cmd/promtool # without clients of clouds: minutes less

unpack alertmanager "$alertmanager"
mkdir -p ui/app/dist # modules lack the built web pages, which no test looks at
touch ui/app/dist/index.html
go build -o "$directory/prometheus-alertmanager" ./cmd/alertmanager # the name that Debian gave it
go build -o "$directory/amtool" ./cmd/amtool
