#!/usr/bin/env bash
# Tests the model that scripts/merge_sorsa.sh merged: bash scripts/test_sorsa.sh [gsm-8k|math|humaneval] [flags]
# humaneval runs code that the model wrote on this machine, and asks for --allow-code-execution.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=python3
[ ! -x .venv/bin/python ] || python=.venv/bin/python # of scripts/setup.sh; without it, the environment that is active
export OMP_WAIT_POLICY=PASSIVE

dataset=gsm-8k
case "${1:-}" in
    "" | -*) ;;
    *) dataset=$1 && shift ;;
esac
exec "$python" run.py --name llama2_sorsa_r128 \
    --test \
    --test-dataset "$dataset" \
    --test-precision bf16 \
    "$@"
