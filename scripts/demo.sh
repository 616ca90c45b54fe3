#!/usr/bin/env bash
# Trains, merges and tests SORSA on the model and data that come with the project, and tests the base model beside it.
# --rwkv does it with the RWKV6 instead of the Llama.
# Needs Python 3.11 or newer and, the first time, the network for installing; about three minutes on two CPU cores then.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1-}" in
"") name=demo_sorsa_r16 ;;
--rwkv) name=demorwkv6_sorsa_r16 ;;
*)
    echo "error: $1: not understood; bash scripts/demo.sh, or bash scripts/demo.sh --rwkv" >&2
    exit 2
    ;;
esac
bash scripts/setup.sh

export OMP_WAIT_POLICY=PASSIVE # spinning threads make a step several times slower on a busy machine
export HF_HUB_OFFLINE=1
run() {
    echo
    echo "\$ python run.py --name $name $*"
    .venv/bin/python run.py --name "$name" "$@"
}

run --train --overwrite
run --merge --overwrite
run --test --test-dataset gsm-8k --base --overwrite
run --test --test-dataset gsm-8k --overwrite
PYTHONPATH=. .venv/bin/python scripts/print_scores.py "runs/$name" gsm-8k
