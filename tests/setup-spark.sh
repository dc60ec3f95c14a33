#!/bin/sh
# PySpark and the exporter with its extra, for `make spark`, in an environment of their own: PYTHON DIRECTORY. Spark
# needs Java 17 or newer.
set -eu
python=$1
directory=$2
command -v java >/dev/null || { echo "Spark needs Java 17: install Debian's openjdk-17-jre-headless" >&2; exit 1; }
[ -x "$directory/bin/pytest" ] && [ -x "$directory/bin/spark-submit" ] && exit 0
tests/setup-venv.sh "$python" "$directory"
grep -v '^pandas==' constraints.txt >"$directory/constraints.txt" # PySpark 4 warns of pandas 3
"$directory/bin/python" -m pip install --quiet --constraint "$directory/constraints.txt" --editable '.[spark]' \
    'pandas<3' pytest pytest-timeout hypothesis httpx
