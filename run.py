"""Entry point of SORSA: train, merge, test and grade. See `python run.py --help`, or start with `bash scripts/demo.sh`.

python run.py --name llama2_sorsa_r128 --train
python run.py --name llama2_sorsa_r128 --merge
python run.py --name llama2_sorsa_r128 --test --test-dataset gsm-8k --test-precision bf16
"""

import sys

from sorsa.cli import main

if __name__ == "__main__":
    sys.exit(main())
