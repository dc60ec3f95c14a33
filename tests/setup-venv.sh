#!/bin/sh
# Makes the virtual environment: setup-venv.sh PYTHON VENV.
# Debian ships Python without ensurepip; python3-venv brings it, and is installed here when that is allowed.
set -eu
python=$1
venv=$2
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
    else
        echo "$python cannot make virtual environments: install Debian's python3-venv (apt-get install python3-venv)" >&2
        exit 1
    fi
fi
"$python" -m venv "$venv"
