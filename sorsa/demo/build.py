"""Make the embedded default again: `python -m sorsa.demo.build [--data | --pretrain | --pretrain-rwkv]`.

`--data` writes data/*.jsonl and heldout.txt: seconds, byte-identical every time. `--pretrain` trains the tokenizer and
the Llama into model/: 26 CPU-minutes, so about 15 minutes on 2 free cores; the weights differ in their last bits
from one machine to another, and so do scores by a few points. `--pretrain-rwkv` does the same for the RWKV6 in
model_rwkv6/. Without a flag it makes all of them. `--checkpoint FILE` lets an interrupted training go on.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sorsa.data.prompts import math_train_prompt
from sorsa.demo.architectures import build_llama, build_rwkv6
from sorsa.demo.pretrain import Recipe, build_tokenizer, held_out_text, pretrain, save_base
from sorsa.demo.problems import OPENING, Problem, make_splits
from sorsa.files import whole_directory, write_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

HERE = Path(__file__).parent
# 150 steps x 16 rows of fine-tuning see each training row at most once; 480 questions give a standard error of
# 2.3 points at 50%, and decode in seconds.
SPLITS = {"test": 480, "valid": 320, "train": 2400}
DATA_SEED = 2024
HELD_OUT_SEED = 77  # differs from Recipe.seed .. Recipe.seed + 2, the seeds of the pre-training text
LLAMA_ROUNDS = (Recipe(),)
# After the first round the RWKV6 knows its facts, but not yet which numbers the text before had given.
RWKV6_ROUNDS = (
    Recipe(first_steps=720, second_steps=480, rows=8),
    Recipe(first_steps=0, second_steps=0, recall_steps=700, rows=8),
)


def data_files() -> dict[str, str]:
    """Return the text of every data file by its name under sorsa/demo."""
    splits = make_splits(SPLITS, DATA_SEED)
    return {
        "data/train.jsonl": to_jsonl([problem.training_row() for problem in splits["train"]]),
        "data/valid.jsonl": to_jsonl([problem.test_row() for problem in splits["valid"]]),
        "data/test.jsonl": to_jsonl([problem.test_row() for problem in splits["test"]]),
        "data/heldout.txt": held_out_text(HELD_OUT_SEED),
    }


def to_jsonl(rows: list[dict[str, str]]) -> str:
    """Return `rows` as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def tokenizer_texts(problems: list[Problem]) -> list[str]:
    """Return prompt and response of each problem, for the tokenizer's merges (pre-training text has the opening)."""
    rows = [problem.training_row() for problem in problems]
    return [math_train_prompt(row["query"]) + row["response"].removeprefix(OPENING) for row in rows]


def build_base(
    target: Path,
    build_model: Callable[[PreTrainedTokenizerFast, int], PreTrainedModel],
    rounds: Sequence[Recipe],
    checkpoint: Path | None = None,
) -> None:
    """Train tokenizer and base model and write them to `target`, whole or not at all.

    Args:
        target: The Hugging Face directory to write; an existing one is replaced.
        build_model: One of architectures.py.
        rounds: Settings of pre-training, one learning-rate cycle each; the first gives the seed of the weights.
        checkpoint: Start of the names of the files, one per round, that are written as `pretrain` does; they are
            deleted when `target` is written.
    """
    seed = rounds[0].seed
    tokenizer = build_tokenizer(tokenizer_texts(make_splits(SPLITS, DATA_SEED)["train"]), seed)
    model = build_model(tokenizer, seed)
    files = [checkpoint and checkpoint.with_name(f"{checkpoint.name}.{index}") for index in range(len(rounds))]
    for recipe, file in zip(rounds, files, strict=True):
        pretrain(model, tokenizer, recipe, file)
    with whole_directory(target, replace=True) as folder:
        save_base(model, tokenizer, folder)
        for path in folder.iterdir():
            path.chmod(0o644)  # safetensors creates its files for the owner alone
    for file in filter(None, files):
        file.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> None:
    """Run the command line described at the top of this file."""
    parser = argparse.ArgumentParser(prog="python -m sorsa.demo.build", description=__doc__.splitlines()[0])
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--data", action="store_true", help="only the data files (seconds)")
    parts.add_argument("--pretrain", action="store_true", help="only the tokenizer and the Llama (minutes)")
    parts.add_argument("--pretrain-rwkv", action="store_true", help="only the tokenizer and the RWKV6 (minutes)")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="with --pretrain...: go on from this file")
    args = parser.parse_args(argv)
    if args.checkpoint and not (args.pretrain or args.pretrain_rwkv):
        parser.error("--checkpoint: give --pretrain or --pretrain-rwkv as well")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    everything = not (args.data or args.pretrain or args.pretrain_rwkv)
    if args.data or everything:
        for name, text in data_files().items():
            write_whole(HERE / name, text)
    if args.pretrain or everything:
        build_base(HERE / "model", build_llama, LLAMA_ROUNDS, args.checkpoint)
    if args.pretrain_rwkv or everything:
        build_base(HERE / "model_rwkv6", build_rwkv6, RWKV6_ROUNDS, args.checkpoint)


if __name__ == "__main__":
    main()
