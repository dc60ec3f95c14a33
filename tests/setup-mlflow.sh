#!/bin/sh
# MLflow's and MLServer's own servers, for `make mlflow`, in an environment of their own: PYTHON DIRECTORY. The exporter
# is imported from here, for log_profile.
set -eu
python=$1
directory=$2
[ -x "$directory/bin/mlflow" ] && [ -x "$directory/bin/mlserver" ] && exit 0
"$python" -m venv "$directory"
"$directory/bin/python" -m pip install --quiet \
    "mlflow[auth]==3.17.2" "mlserver==1.7.1" scikit-learn pandas pyarrow msgspec scipy pyyaml xxhash cronsim
