"""Stands in for run.py in the tests of --compare: writes what a stage leaves, in milliseconds, as stub.json says.

stub.json (in the working directory): `accuracy` {"validate" | "test": {"LR" or "LR SEED": share}}, `fail_at` (the call,
counted from 0, that fails once; of several at a time the next one), `wait_at` (the call that waits for Ctrl-C once),
`how` (how the failing call ends), `diverge` (learning rates whose training leaves a record that says so, and fails).
Every call is noted in calls.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml


def parse() -> argparse.Namespace:
    """Return the flags that the comparison gave."""
    parser = argparse.ArgumentParser()
    for flag in ("--name", "--config-dir", "--run-path", "--test-file", "--test-dataset", "--processes"):
        parser.add_argument(flag)
    for flag in ("--train", "--merge", "--test", "--base", "--analyze"):
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


def disturb(plan: dict, call: int) -> None:
    """Fail or wait, if it is this call's turn; once."""
    if plan.get("fail_at") is not None and call >= plan["fail_at"]:  # of two calls at a time, neither may be that one
        Path("stub.json").write_text(json.dumps(plan | {"fail_at": None}))
        if plan.get("how") == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        print(" 10%|#   | a bar\r 20%|##  | a bar", file=sys.stderr)
        print("error: the loss is nan at step 3", file=sys.stderr)
        sys.exit(2)
    if plan.get("wait_at") == call:
        Path("stub.json").write_text(json.dumps(plan | {"wait_at": None}))
        signals = []
        signal.signal(signal.SIGINT, lambda number, frame: signals.append(number))
        Path("waiting").touch()
        end = time.monotonic() + 60  # no signal is a failure, not a test that never ends
        while not signals and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)  # a second signal would arrive by now
        Path("signals").write_text(str(len(signals)))
        sys.exit(130)


def work(flags: argparse.Namespace, plan: dict) -> str:
    """Leave what the stage leaves and return its name."""
    config = yaml.safe_load((Path(flags.config_dir) / f"{flags.name}.yaml").read_text())
    folder = Path(flags.run_path or config["run_path"]) / flags.name
    if flags.train and config["lr"] in plan.get("diverge", []):
        folder.mkdir(parents=True)
        (folder / "record.json").write_text('{"status": "diverged"}')
        sys.exit("error: the loss is nan at step 3")
    if flags.train:
        for name in ("adapter", "checkpoints"):
            (folder / name).mkdir(parents=True)
        facts = {
            "status": "finished",
            "trainable_parameters": 7,
            "total_parameters": 9,
            "steps_done": 4,
            "seconds": 2.0,
        }
        facts |= {
            "first_loss": 5.0,
            "last_loss": 1.0,
            "tokens": 50,
            "peak_host_bytes": 2 * 10**9,
            "git": {"commit": "c"},
        }
        (folder / "record.json").write_text(json.dumps(facts))
        return "train"
    if flags.merge:
        (folder / "merged").mkdir()
        (folder / "merged" / "config.json").write_text("{}")
        return "merge"
    if flags.analyze:
        (folder / "analysis").mkdir()
        mean = [{"step": 0, "dD": 0.0}, {"step": 4, "dD": config["lr"]}]
        (folder / "analysis" / "drift.json").write_text(json.dumps({"mean": mean}))
        return "analyze"
    (folder / "results").mkdir(exist_ok=True, parents=True)
    if flags.test_dataset == "perplexity":
        assert flags.base or (folder / "merged" / "config.json").is_file()
        stem, value = ("base-perplexity", 5.0) if flags.base else ("perplexity", 7.0)
        (folder / "results" / f"{stem}.json").write_text(json.dumps({"perplexity": value}))
        return f"{stem} {flags.test_file}"
    assert (folder / "merged" / "config.json").is_file()
    stage = "validate" if flags.test_file == config["valid_file"] and flags.test_file else "test"
    known = plan["accuracy"][stage]
    accuracy = known.get(f"{config['lr']} {config['seed']}", known.get(str(config["lr"]), 0.5))
    result = {"rule": "ours", "rules": {"ours": {"correct": round(8 * accuracy)}}, "graded": 8, "accuracy": accuracy}
    (folder / "results" / "gsm-8k.json").write_text(json.dumps(result | {"interval_95": [0.0, 1.0]}))
    rows = [{"id": str(index), "correct": index < round(8 * accuracy)} for index in range(8)]
    (folder / "results" / "gsm-8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return stage


def main() -> None:
    """Do one stage."""
    flags, plan = parse(), json.loads(Path("stub.json").read_text())
    calls = Path("calls.jsonl")
    number = len(calls.read_text().splitlines()) if calls.is_file() else 0
    merged = len(list(Path(".").glob("out/*/runs/*/merged")))
    disturb(plan, number)
    stage = work(flags, plan)
    with calls.open("a") as stream:
        stream.write(json.dumps({"stage": stage, "run": flags.name, "merged": merged}) + "\n")


if __name__ == "__main__":
    main()
