"""LoRA, PiSSA and SORSA on SmolLM2-135M with GSM-8K's own training rows: equal steps, several seeds.

    python bench/smollm2.py --model SMOLLM2_DIR --train gsm8k_train.jsonl --test gsm8k_test.jsonl --text ENGLISH.txt

First a pilot: each method takes a few steps with the learning rates of one grid, and keeps the one with the lowest loss
of the last quarter. No row is read twice, so that the loss of a step is that of unseen rows. Then `--compare` runs all
seeds. --processes methods are at work at a time (set OMP_NUM_THREADS to its share of the cores). Everything lies under
--output and goes on where it was stopped. The text shows what was forgotten.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from sorsa.errors import UsageError
from sorsa.files import write_json, write_whole
from sorsa.report.records import writable
from sorsa.run_folder import RunFolder, read_metrics

RUN = str(Path(__file__).resolve().parent.parent / "run.py")
METHODS = ("sorsa", "lora", "pissa")
LR_GRID = (2.5e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
LR_TRIED = (2, 7)  # of LR_GRID, by every method; a method whose best one lies at an end tries the next one too
GAMMA = 0.2083 * 64  # gamma / lr: the regularizer's weight in the paper's runs, 0.208
_CALCULATOR = re.compile(r"<<[^>]*>>")  # GSM-8K's notes for a calculator inside its solutions


def write_rows(source: Path, target: Path) -> None:
    """Write GSM-8K's rows in MetaMathQA's columns and with its last line."""
    rows = []
    for line in source.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        solution, _, number = _CALCULATOR.sub("", row["answer"]).partition("####")
        response = f"{solution.strip()}\nThe answer is: {number.strip()}"
        rows.append(json.dumps({"query": row["question"], "response": response}) + "\n")
    write_whole(target, "".join(rows))


def training(args: argparse.Namespace, method: str, lr: float) -> dict[str, object]:
    """Return the settings of one method's training."""
    found: dict[str, object] = {"model": str(args.model), "local": True}
    found |= {"train_dataset": str(args.output / "rows.jsonl")}
    found |= {"peft": method, "rank": 16, "lr": lr, "seed": 0, "batch_size": args.batch_size, "accum_steps": 1}
    found |= {"length": 384, "mix_precision": ["bf16"], "workers": 1, "max_steps": args.steps}
    found |= {"run_path": str(args.output)}
    return found | ({"gamma": float(f"{GAMMA * lr:.4g}")} if method == "sorsa" else {})


def testing(args: argparse.Namespace) -> dict[str, object]:
    """Return the settings of what is measured, the same for all."""
    found = {"snapshots": 2, "test_dataset": "gsm-8k", "test_file": str(args.test), "limit": args.questions}
    return found | {"max_new_tokens": 200, "valid_batch_size": 16, "forgetting_file": str(args.text)}


def pilot(args: argparse.Namespace, method: str, lr: float) -> float:
    """Return the mean loss of the last quarter of the pilot's steps; infinite where it diverged."""
    name, folder = f"{method}-lr{lr:g}", args.output / "pilot"
    run = RunFolder(folder, name)
    path = args.output / "pilot-configs" / f"{name}.yaml"
    changes = {"max_steps": args.pilot_steps, "run_path": str(folder)}
    wanted = yaml.safe_dump(training(args, method, lr) | changes)
    done = run.read_record().get("status") in ("finished", "diverged")
    if done and path.read_text(encoding="utf-8") != wanted:
        raise UsageError(f"{run.path} is of other settings ({path}): give another --output")
    if not done:
        write_whole(path, wanted)
        words = ["--name", name, "--config-dir", str(path.parent), "--train"]
        code = subprocess.run([sys.executable, RUN, *words], check=False).returncode
        if code and run.read_record().get("status") != "diverged":
            raise UsageError(f"the pilot {name} failed with exit code {code}; the same command again goes on")
    if run.read_record()["status"] == "diverged":
        return math.inf
    rows = read_metrics(run.metrics)
    return statistics.fmean(row["loss"] for row in rows[-len(rows) // 4 :])


def try_rates(args: argparse.Namespace, method: str) -> dict[float, float]:
    """Return the loss of each learning rate tried; the lowest lies at an end of them only where the grid ends."""
    low, high = LR_TRIED
    losses: dict[float, float] = {}
    while True:
        losses |= {lr: pilot(args, method, lr) for lr in LR_GRID[low:high] if lr not in losses}
        best = LR_GRID.index(min(losses, key=losses.__getitem__))
        if best == low > 0:
            low -= 1
        elif best == high - 1 < len(LR_GRID) - 1:
            high += 1
        else:
            return dict(sorted(losses.items()))


def main() -> None:
    """Prepare, choose, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "train", "test", "text"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/smollm2"))
    for name, number in (
        ("steps", 72),
        ("batch-size", 8),
        ("pilot-steps", 10),
        ("seeds", 3),
        ("questions", 64),
        ("processes", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=number)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    write_rows(args.train, args.output / "rows.jsonl")
    with ThreadPoolExecutor(args.processes) as pool:
        try:
            losses = dict(zip(METHODS, pool.map(lambda method: try_rates(args, method), METHODS), strict=True))
        except UsageError as error:
            parser.error(str(error))
    tried = [{"method": method, "lr": lr, "loss": loss} for method in METHODS for lr, loss in losses[method].items()]
    write_json(args.output / "pilot.json", writable({"steps": args.pilot_steps, "tried": tried}))
    files = []
    for method, found in losses.items():
        print(f"{method}: loss by learning rate {found}", flush=True)
        path = args.output / "configs" / f"smollm2_{method}.yaml"
        write_whole(path, yaml.safe_dump(training(args, method, min(found, key=found.__getitem__)) | testing(args)))
        files.append(str(path))
    words = ["--compare", *files, "--seeds", str(args.seeds), "--processes", str(args.processes)]
    sys.exit(subprocess.run([sys.executable, RUN, *words], check=False).returncode)


if __name__ == "__main__":
    main()
