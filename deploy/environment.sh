#!/usr/bin/env bash
# Makes the environment in the folder given, from pinned versions. PYTHON names the interpreter (default python3).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: environment.sh FOLDER}
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }
fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if ! fits "$python"; then
    for other in python3.13 python3.12 python3.11; do # a newer one may be there under its own name
        if fits "$other"; then
            python=$other
            break
        fi
    done
fi
if ! command -v "$python" >/dev/null; then
    say "There is no '$python'. Python 3.11 or newer is needed: apt-get install python3 python3-venv"
    say "(Debian 12, Ubuntu 24.04 or newer), or name another one: make PYTHON=/path/to/python3.11"
    exit 2
fi
if ! fits "$python"; then
    say "Python 3.11 or newer is needed; $(command -v "$python") is $("$python" -V 2>&1)."
    say "Install one and name it: make PYTHON=/path/to/python3.11"
    exit 2
fi

if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        say "installing python3-venv"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq </dev/null >&2 || say "apt-get update failed; going on with the lists that are there"
        apt-get install -y -qq "python$version-venv" </dev/null >&2 || apt-get install -y -qq python3-venv </dev/null >&2
    else
        say "$python has no venv module. As root: apt-get install python$version-venv"
        exit 2
    fi
fi

# an environment of a Python that has gone, or half made, is of no use
[[ -x $venv/bin/python ]] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input --retries 5 --timeout 60 "$@" </dev/null; }

say "installing the pinned packages into $venv (about 2 GB)"
# three at a time, each without looking for what it needs: the pins name everything. An exact pin of torch takes the
# build that the machine's index offers (CPU where it has one); as one of many requirements pip may settle on another
# and pull gigabytes of CUDA libraries. What the other two could not install, the last pip does, or says why.
some() { pip install --quiet --no-compile --no-deps --requirement "$1"; }
some <(grep '^torch==' constraints.txt) &
torch=$!
some <(grep '^[a-m]' constraints.txt) &
some <(grep '^[^a-m#]' constraints.txt | grep -v '^torch==') &
wait "$torch" # the others may go on without theirs, not without this one
wait
# pip compiles on one core; a file that is for another Python is no failure, and tests of packages are not run
"$venv/bin/python" -m compileall -qq -j 0 -x '/tests/' "$venv"/lib/python3*/site-packages &
compiled=$!
pip install --quiet --no-compile --constraint constraints.txt --editable '.[local,test]'
pip check
wait "$compiled" || true
