"""A run's folder `runs/NAME/`: what lies where, its metrics, and the facts about the machine that every record carries.

config.yaml       the resolved settings of the training
record.json       versions, seed, git commit, command, machine, timings, losses, status
metrics.jsonl     one row per optimizer step
checkpoints/      resumable states
start/            PiSSA, OLoRA: the adapter before the first step
snapshots/        what was trained at chosen steps, for --analyze (`sorsa.analysis.snapshots`)
adapter/          the trained adapter (PEFT's format), or the trained weights of a method without; the tokenizer
merged/           the merged model as an ordinary Hugging Face directory; of an RWKV6 also model.pth for its runtime
lora/             the adapter exported as a plain LoRA
analysis/         drift.json (`sorsa.analysis.drift`)
results/          DATASET.json (score), DATASET.jsonl (one row per question), DATASET.completions.jsonl
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from sorsa.errors import UsageError
from sorsa.files import read_json_object, write_json

_PACKAGES = ("torch", "transformers", "peft", "datasets", "accelerate", "safetensors", "tokenizers", "numpy")
_PACKAGES += ("sympy", "math-verify")  # they decide, or say their opinion, on answers
_PACKAGES += ("rwkv", "fla-core")  # where the one answers a test, or the other computes RWKV6 on a GPU


class RunFolder:
    """The paths of one run and the checks that its earlier stages are there.

    Args:
        run_path: The folder of all runs (`--run-path`).
        name: The run's name (`--name`).
    """

    def __init__(self, run_path: str | Path, name: str) -> None:
        self.run_path = Path(run_path)
        self.name = name
        self.path = self.run_path / name
        self.config = self.path / "config.yaml"
        self.record = self.path / "record.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.start = self.path / "start"
        self.snapshots = self.path / "snapshots"
        self.adapter = self.path / "adapter"
        self.merged = self.path / "merged"
        self.lora = self.path / "lora"
        self.analysis = self.path / "analysis"
        self.drift = self.analysis / "drift.json"
        self.results = self.path / "results"

    def command(self, mode: str) -> str:
        """Return the command line that runs `mode` (`train`, `merge`, ...) for this run, to show in messages."""
        where = "" if self.run_path == Path("runs") else f" --run-path {shlex.quote(str(self.run_path))}"
        return f"python run.py --name {shlex.quote(self.name)}{where} --{mode}"

    def strange_files(self) -> list[str]:
        """Return the names in the folder that are not a run's, sorted; hidden files (temporary ones) do not count."""
        own = {path.name for path in self._training_files()} | {self.results.name}
        return sorted(path.name for path in self.path.iterdir() if path.name not in own and path.name[0] != ".")

    def clear(self, results: bool) -> None:
        """Delete what earlier stages wrote, and nothing else.

        Args:
            results: Whether the results of tests go too.
        """
        for path in [*self._training_files(), *([self.results] if results else [])]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _training_files(self) -> list[Path]:
        """Return everything that training, merging, exporting and analysing write."""
        directories = [self.checkpoints, self.start, self.snapshots, self.adapter, self.merged, self.lora]
        directories.append(self.analysis)
        return [self.config, self.record, self.metrics, *directories]

    def result(self, dataset: str) -> Path:
        """Return the path of the score record of a benchmark, `results/DATASET.json`."""
        return self.results / f"{dataset}.json"

    def questions(self, dataset: str) -> Path:
        """Return the path of the rows per question of a benchmark, `results/DATASET.jsonl`."""
        return self.results / f"{dataset}.jsonl"

    def completions(self, dataset: str) -> Path:
        """Return the path of the completions as they were generated, `results/DATASET.completions.jsonl`."""
        return self.results / f"{dataset}.completions.jsonl"

    def require_adapter(self) -> Path:
        """Return the adapter's directory.

        Raises:
            UsageError: The run has not been trained; names the command that trains it.
        """
        if not any((self.adapter / name).is_file() for name in ("adapter_config.json", "trained_weights.json")):
            state = "is not finished training" if self.record.is_file() else "has not been trained"
            raise UsageError(f"run {self.name!r} {state}: no adapter in {self.adapter}; run {self.command('train')}")
        return self.adapter

    def require_merged(self) -> Path:
        """Return the merged model's directory.

        Raises:
            UsageError: The run has not been merged; names the command to run first.
        """
        if not (self.merged / "config.json").is_file():
            self.require_adapter()
            raise UsageError(
                f"run {self.name!r} has not been merged: no model in {self.merged}; run {self.command('merge')}"
            )
        return self.merged

    def read_record(self) -> dict[str, Any]:
        """Return record.json, or an empty dict where the run has none.

        Raises:
            UsageError: The file is not a JSON object (edited by hand, or another program's).
        """
        if not self.record.is_file():
            return {}
        return read_json_object(self.record, "repair it, or start anew with --overwrite")

    def update_record(self, **facts: Any) -> None:
        """Add `facts` to record.json, written whole or not at all. Raises OSError when the disk is full."""
        write_json(self.record, self.read_record() | facts)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics.jsonl; a last line cut off by a crash or a full disk is left out.

    Raises:
        UsageError: Another line is not a JSON object.
    """
    rows: list[dict[str, Any]] = []
    # bytes that are no text make a line that is no JSON, and are named with it
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, got {type(row).__name__}")
            rows.append(row)
        except (ValueError, RecursionError) as error:
            if number < len(lines):
                raise UsageError(f"{path} line {number}: not JSON ({error}); repair or delete the line") from error
    return rows


def environment() -> dict[str, Any]:
    """Return the facts that belong to every record: versions, git state, command, machine (all JSON types)."""
    return {
        "versions": _versions(),
        "git": _git(),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "host": _host(),
    }


def _versions() -> dict[str, str | None]:
    """Return the version of Python, this package and what it stands on; None where a package is missing."""
    import sorsa

    # Ours is read from the module: a distribution named sorsa could be the authors' package.
    versions = {"python": platform.python_version(), "sorsa": getattr(sorsa, "__version__", None)}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git() -> dict[str, Any]:
    """Return commit and whether tracked files differ from it; both None outside a checkout of this project."""
    root = Path(__file__).resolve().parent.parent
    top = _output("git", "-C", str(root), "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:  # installed into a venv that lies in somebody else's repository
        return {"commit": None, "dirty": None}
    changed = _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return {"commit": _output("git", "-C", str(root), "rev-parse", "HEAD"), "dirty": bool(changed)}


def _host() -> dict[str, Any]:
    """Return the machine: name, system, processor, cores, memory in bytes, GPUs by name and memory in bytes."""
    import torch

    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "cpu": _processor(),
        "cpus": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [{"name": gpu.name, "memory_bytes": gpu.total_memory} for gpu in gpus],
        "cuda": torch.version.cuda,
    }


def _processor() -> str:
    """Return the processor's name: Linux keeps it in /proc/cpuinfo, `platform` knows only the architecture there."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _output(*command: str) -> str | None:
    """Return a command's standard output without the final newline, None when it fails or does not exist."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
