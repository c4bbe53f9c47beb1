#!/usr/bin/env bash
# What tests need beyond the environment: a PostgreSQL server (tests start their own), `ip` (several hosts on one
# machine), a Chromium (MLflow's pages; 10 seconds), ImageMagick (pictures by another hand) and Node with npm (a
# provider of logins, installed from a lock by its test). Installed when root on Debian or Ubuntu; else what is missing
# is said, and the tests that need it skip.
set -euo pipefail

missing=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
command -v ip >/dev/null || [[ -x /sbin/ip ]] || missing+=(iproute2)
command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
command -v magick >/dev/null || command -v convert-im6.q16 >/dev/null || missing+=(imagemagick)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
[[ ${#missing[@]} == 0 ]] && exit 0

if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    printf 'Not installed: %s. Tests that need it will skip. As root: apt-get install %s\n' \
        "${missing[*]}" "${missing[*]}" >&2
    exit 0
fi
printf 'installing %s\n' "${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# the package's own cluster is not wanted: tests make theirs in a temporary folder
if [[ " ${missing[*]} " == *' postgresql '* ]] && [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
fi
install() { apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >&2; }
if ! install; then # the lists may be missing or old
    apt-get update -qq </dev/null >&2 || true
    install || printf 'could not install %s; tests that need it will skip\n' "${missing[*]}" >&2
fi
