#!/bin/sh
# The programs beside which `make bench` counts a table, in an environment of their own: PYTHON DIRECTORY.
set -eu
python=$1
directory=$2
[ -e "$directory/complete" ] && exit 0
"$python" -m venv "$directory"
"$directory/bin/python" -m pip install --quiet pandas pyarrow duckdb evidently
# whylogs needs an older NumPy than the others.
"$python" -m venv "$directory/whylogs"
"$directory/whylogs/bin/python" -m pip install --quiet whylogs pyarrow pandas ||
    echo "whylogs cannot be installed for this Python; it is left out" >&2
touch "$directory/complete"
