#!/bin/sh
# The programs beside which `make bench` counts a table, in environments of their own: PYTHON DIRECTORY.
set -eu
python=$1
directory=$2
[ -e "$directory/complete" ] && exit 0
"$python" -m venv "$directory"
"$directory/bin/python" -m pip install --quiet pandas pyarrow duckdb
# These need older versions than the others: Evidently of pandas, whylogs of NumPy and Arrow, too, which has no builds for the
# newest Pythons.
"$python" -m venv "$directory/evidently"
"$directory/evidently/bin/python" -m pip install --quiet evidently 'pandas<3' pyarrow
"$python" -m venv "$directory/whylogs"
"$directory/whylogs/bin/python" -m pip install --quiet whylogs 'numpy<2' 'pandas<3' 'pyarrow<19' ||
    echo "whylogs cannot be installed for this Python; it is left out" >&2
touch "$directory/complete"
