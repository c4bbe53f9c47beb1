#!/usr/bin/env bash
# The first job, all the way, on this machine: starts the local stack (or uses the one that runs), trains a VAE on
# scikit-learn's 8x8 digits through queue and Ray, and shows what came out. RECIPE and SUBMIT_ARGS may be changed.
set -euo pipefail
cd "$(dirname "$0")/.."
recipe=${RECIPE:-digits/beta-vae-mlp}

vaesvc up >/dev/null # its progress goes to stderr
# shellcheck disable=SC2086  # several arguments are meant
job=$(vaesvc submit "$recipe" --wait ${SUBMIT_ARGS:-} | sed -n 1p) || failed=$?
if [[ -n ${failed:-} ]]; then
    echo "The job did not succeed. Its log: vaesvc logs ${job:-JOB}; the stack's: vaesvc status" >&2
    exit "$failed"
fi
python deploy/show_result.py "$job" "results/$job"
cat <<EOT

The stack goes on running: vaesvc status, vaesvc jobs, vaesvc models, vaesvc pull NAME FOLDER. End it: vaesvc down
(\`vaesvc\` is in .venv/bin: source .venv/bin/activate)
EOT
