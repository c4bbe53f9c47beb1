#!/usr/bin/env bash
# Prints constraints.txt for the environment of the Python given: names and versions only, no paths, no build labels.
set -euo pipefail
cat <<'HEADER'
# Every package of the environment, pinned: what was tested together (Python 3.11, Linux, CPU).
# `make env` installs with it; `make constraints` writes it anew from the environment.
HEADER
"$1" -m pip freeze --all --exclude-editable --disable-pip-version-check |
    grep -E '^[A-Za-z0-9._-]+==' | grep -Evi '^(vaesvc|pip|wheel)==' | sed -E 's/\+[A-Za-z0-9.]+$//'
