"""Which runs a comparison consists of, what each has reached on disk, and which learning rate won."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

from sorsa.config import RunConfig
from sorsa.evaluation.perplexity import NAME as PERPLEXITY
from sorsa.evaluation.questions import read_jsonl
from sorsa.files import read_json_object
from sorsa.methods import lacks
from sorsa.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Run:
    """One training with its tests.

    Args:
        config: The complete settings; its name and run path are the run's own.
        home: The comparison's folder.
    """

    config: RunConfig
    home: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.config.name

    @property
    def folder(self) -> RunFolder:
        """The run's folder, with the results on the test split."""
        return RunFolder(self.home / "runs", self.name)

    @property
    def validation(self) -> RunFolder:
        """A folder of the same name for the results on the validation questions."""
        return RunFolder(self.home / "validation", self.name)

    @property
    def yaml(self) -> Path:
        """The run's settings as a file."""
        return self.home / "configs" / f"{self.name}.yaml"

    @property
    def trained(self) -> bool:
        """Whether the training is finished."""
        return self.folder.read_record().get("status") == "finished"

    @property
    def diverged(self) -> bool:
        """Whether the training ended with a loss that is no finite number."""
        return self.folder.read_record().get("status") == "diverged"

    @property
    def merged(self) -> bool:
        """Whether the merged model is there; it is written whole or not at all."""
        return (self.folder.merged / "config.json").is_file()

    def test_result(self) -> dict[str, Any] | None:
        """Return the record of the test on the test split, None before it."""
        return _read_json(self.folder.result(self.config.test_dataset))

    def test_verdicts(self) -> dict[str, bool] | None:
        """Return question id -> whether the answer on the test split is right, None before the test."""
        path = self.folder.questions(self.config.test_dataset)
        if not path.is_file():
            return None
        return {row["id"]: row["correct"] for _, row in read_jsonl(path)}

    def validation_result(self) -> dict[str, Any] | None:
        """Return the record of the test on the validation questions, None before it."""
        return _read_json(self.validation.result(self.config.test_dataset))

    @property
    def untrained(self) -> RunFolder:
        """A folder of the same name for what the base model is measured on."""
        return RunFolder(self.home / "base", self.name)

    def perplexity(self) -> dict[str, Any] | None:
        """Return the record of the perplexity of `forgetting_file` after training, None before it was taken."""
        return _read_json(self.folder.result(PERPLEXITY))

    def perplexity_before(self) -> dict[str, Any] | None:
        """Return the same of the base model; it is taken once per comparison, under the name of its first run."""
        return _read_json(self.untrained.result(f"base-{PERPLEXITY}"))

    def drift(self) -> dict[str, Any] | None:
        """Return what `--analyze` found, None before it."""
        return _read_json(self.folder.drift)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do: all that its configuration asks for is measured, or the training diverged."""
        asked = [self.test_result()]
        asked += [self.perplexity()] if self.config.forgetting_file else []
        asked += [self.drift()] if self.config.snapshots else []
        return self.diverged or None not in asked

    def discard_merged(self) -> None:
        """Delete the merged model, if there is one: `--merge` makes it again from the adapter."""
        _discard(self.folder.merged)

    def discard_checkpoints(self) -> None:
        """Delete the checkpoints, if there are any: a finished training never resumes."""
        _discard(self.folder.checkpoints)


def _discard(directory: Path) -> None:
    """Delete a directory; one that a crash leaves half deleted has lost its name before."""
    rest = directory.with_name(f".{directory.name}.deleted")
    if directory.exists():
        shutil.rmtree(rest, ignore_errors=True)
        os.replace(directory, rest)
    shutil.rmtree(rest, ignore_errors=True)


def _read_json(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in a file, None where there is no file; raises UsageError for anything else in it."""
    return read_json_object(path, "delete it, and the same command makes it anew") if path.is_file() else None


@dataclasses.dataclass(frozen=True)
class Method:
    """One YAML file of a comparison.

    Args:
        config: Its settings.
        file: Its path.
        seeds: Of the runs, ascending; the grid is run with the first.
        home: The comparison's folder.
    """

    config: RunConfig
    file: Path
    seeds: tuple[int, ...]
    home: Path

    @property
    def has_grid(self) -> bool:
        """Whether a learning rate is to be chosen."""
        return bool(self.config.lr_grid)

    @property
    def candidates(self) -> list[Run]:
        """The runs of the grid, the smallest learning rate first; without a grid the one with the YAML's own."""
        return [self.run(lr, self.seeds[0]) for lr in sorted(set(self.config.lr_grid or [self.config.lr]))]

    def chosen(self) -> Run | None:
        """Return the candidate that won, None while one of them has not been validated."""
        return self.best_of(self.candidates) if self.has_grid else self.candidates[0]

    def best_of(self, candidates: list[Run]) -> Run | None:
        """Return the candidate with most right answers on the validation questions, of equals the smallest `lr`.

        Args:
            candidates: Ascending by `lr`.

        Returns:
            The best one; None while one of them has neither been validated nor diverged, and where all diverged.
        """
        usable = [run for run in candidates if not run.diverged]
        results = [run.validation_result() for run in usable]
        if not usable or None in results:
            return None
        accuracies = [result["accuracy"] for result in results]
        return usable[accuracies.index(max(accuracies))]  # index finds the first, so the smallest lr

    def runs(self) -> list[Run]:
        """Return the runs to test, one per seed; none while the learning rate is not chosen."""
        chosen = self.chosen()
        return [self.run(chosen.config.lr, seed) for seed in self.seeds] if chosen else []

    def possible_runs(self) -> list[Run]:
        """Return every run that there could be, whichever learning rate wins."""
        return [self.run(run.config.lr, seed) for run in self.candidates for seed in self.seeds]

    def run(self, lr: float, seed: int) -> Run:
        """Return the run with this learning rate and seed.

        The regularizer enters with gamma / lr (times a constant, Eq. 3), so gamma follows lr: the grid searches the
        learning rate and nothing else.
        """
        changes: dict[str, Any] = {"lr": lr, "seed": seed, "name": f"{self.config.name}-lr{lr!r}-seed{seed}"}
        if not lacks(self.config.peft, "gamma"):
            changes["gamma"] = float(f"{self.config.gamma * lr / self.config.lr:.12g}")  # without a float's last digit
        changes |= {"lr_grid": None, "run_path": str(self.home / "runs")}
        # overwrite would forbid resuming, the other two would test another model
        changes |= {"overwrite": False, "base": False, "unmerged": False}
        return Run(dataclasses.replace(self.config, **changes), self.home)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Several methods on the same model and data.

    Args:
        name: Of the comparison.
        home: Its folder.
        methods: In the order given.
    """

    name: str
    home: Path
    methods: tuple[Method, ...]

    @property
    def first(self) -> Run:
        """The run under whose name the base model is measured."""
        return self.methods[0].candidates[0]

    @property
    def record(self) -> Path:
        """comparison.json."""
        return self.home / "comparison.json"
