#!/usr/bin/env bash
# Makes the environment in the folder given, from pinned versions. PYTHON names the interpreter; by default it is the
# system's where that is new enough, else the one on the path. Distributions build theirs with the compiler's feedback,
# version managers do not unless told: importing torch takes 1.1 times as long with such a build, plain loops 1.6 times.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:?usage: environment.sh FOLDER}

say() { printf '%s\n' "$*" >&2; }
fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_venv() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }

candidates=(/usr/bin/python3 python3 python3.13 python3.12 python3.11)
[[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
python='' first=''
for candidate in "${candidates[@]}"; do
    fits "$candidate" || continue
    first=${first:-$candidate}
    if has_venv "$candidate"; then
        python=$candidate
        break
    fi
done
python=${python:-$first}
if [[ -z $python ]]; then
    found=${PYTHON:-python3}
    if command -v "$found" >/dev/null; then
        say "Python 3.11 or newer is needed; $(command -v "$found") is $("$found" -V 2>&1)."
        say "Install one and name it: make PYTHON=/path/to/python3.11"
    else
        say "There is no '$found'. Python 3.11 or newer is needed: apt-get install python3 python3-venv"
        say "(Debian 12, Ubuntu 24.04 or newer), or name another one: make PYTHON=/path/to/python3.11"
    fi
    exit 2
fi

if ! has_venv "$python"; then
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
# uv takes a quarter of pip's processor time. It has settings of its own; pip's, the environment's before the files', are
# handed on, so that a machine's own index is used, and every index counts, as with pip.
setting() { sed -n "s/^[^=]*\.$1='\(.*\)'\$/\1/p" <<<"$settings" | head -n 1 | sed 's/\\n/ /g'; }
uv() { "$venv/bin/python" -m uv --quiet pip "$@" --python "$venv/bin/python" </dev/null; }
uv_install() {
    local settings index more links certificates
    settings=$(pip config list) || return
    index=$(setting index-url) more=$(setting extra-index-url) links=$(setting find-links) certificates=$(setting cert)
    [[ -z $index ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
    [[ -z $more ]] || export UV_INDEX=${UV_INDEX:-$more}
    [[ -z $links ]] || export UV_FIND_LINKS=${UV_FIND_LINKS:-${links// /,}}
    [[ -z $certificates ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificates}
    uv install --index-strategy unsafe-best-match "$@"
}
pin() { grep "^$1==" constraints.txt; }

say "installing the pinned packages into $venv (about 2 GB)"
ours=(--constraint constraints.txt --editable '.[local,test]')
# The pins name everything, so they are taken as they are. An exact pin of torch is the build that the machine's index
# offers (CPU where it has one), and comes before what needs it: otherwise gigabytes of CUDA libraries may come too.
pip install --quiet --no-compile --no-deps "$(pin uv)" || true
if ! { uv_install --no-deps --requirement constraints.txt && uv_install "${ours[@]}"; }; then
    say "uv did not install them; pip does, or says why not"
    pip install --quiet --no-compile --no-deps "$(pin torch)"
    pip install --quiet --no-compile "${ours[@]}"
fi
uv check || pip check
# on all cores, what is likely to be used; a file that is for another Python is no failure
unused='/(tests|testing|rllib|llm|databricks|lexers|networkx|mypyc?|fontTools|physics|_inductor)/'
"$venv/bin/python" -m compileall -qq -j 0 -x "$unused" "$venv"/lib/python3*/site-packages || true
