"""Completions on disk: one JSON line per answer, appended wave by wave, reused on restart.

The first line is a header with the fingerprint of all that determines the answers; a file with another fingerprint is
begun anew. A torn last line (power cut, kill -9) does not count, nor does a wave of which a line is missing. At the end
the rows are brought into the order of the data set: the finished file tells nothing of interruptions and processes.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sorsa.errors import UsageError
from sorsa.files import whole_file

logger = logging.getLogger(__name__)

SAMPLES = 64  # pieces read from each weight file for its fingerprint
PIECE = 1 << 16  # bytes of one piece
WHOLE = 32 << 20  # files up to this size are read whole


@dataclass(frozen=True)
class Completion:
    """One generated answer: question id, text, number of new tokens, whether it hit the length limit, how it ended.

    `ended` is `end token`, `answer` (it was complete, and what followed was cut off or never written) or `length`.
    """

    id: str
    completion: str
    tokens: int
    truncated: bool
    ended: str


_COLUMNS = {field.name for field in fields(Completion)}


class CompletionStore:
    """The completions file of one test, and beside it the part files of the processes of rank 1, 2, ...

    Reading changes nothing on the disk; `begin` and `finish` do, in the process of rank 0 alone.

    Args:
        path: The file; its folder is made.
        settings: Everything that determines the answers, as JSON types; its hash is the fingerprint.
        overwrite: Whether answers of another fingerprint may be replaced.
        rank: Number of this process among those that share the test.

    Raises:
        UsageError: The file holds answers of another fingerprint and `overwrite` is false.
    """

    def __init__(self, path: Path, settings: dict[str, Any], overwrite: bool, rank: int = 0) -> None:
        self.path, self._settings, self._overwrite = path, settings, overwrite
        self._own = self._part(rank) if rank else path
        self.fingerprint = fingerprint(settings)
        self.done: dict[str, Completion] = {}
        self.batch_size: int | None = None
        self._read(path)
        self.read_parts()

    def _part(self, rank: int | str) -> Path:
        return self.path.with_name(f"{self.path.stem}.rank{rank}{self.path.suffix}")

    def read_parts(self) -> None:
        """Load what other processes have written, in this run or in an interrupted one."""
        for part in self._parts():
            self._read(part)

    def _parts(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{glob.escape(self.path.stem)}.rank*{self.path.suffix}"))

    def _read(self, path: Path) -> None:
        """Load the answers in a file up to the first line that a crash has torn."""
        if not path.is_file():
            return
        with open(path, "rb") as stream:
            header = _json_line(stream.readline())
            if header is None or not {"fingerprint", "settings"} <= header.keys():
                return
            if header["fingerprint"] != self.fingerprint:
                return self._check_replaceable(header["settings"])
            sizes = [size for size in (self.batch_size, header.get("batch_size")) if size]
            self.batch_size = min(sizes, default=None)  # what fits the process with the least memory
            for line in stream:
                row = _json_line(line)
                if row is None or row.keys() != _COLUMNS:
                    return
                self.done[row["id"]] = Completion(**row)

    def _check_replaceable(self, before: dict[str, Any]) -> None:
        """Refuse to throw hours of generation away unasked."""
        if not self._overwrite:
            changed = [key for key in self._settings if before.get(key) != self._settings[key]]
            raise UsageError(
                f"{self.path} holds answers made with another {', '.join(changed)}: replace them and their score with "
                "--overwrite, or move the results folder away first"
            )
        logger.info("%s is of another model or other settings; generating anew", self.path)

    def begin(self, ids: Iterable[str], batch_size: int | None) -> None:
        """Write the file anew with the answers that count; rank 0 calls it while no other process writes.

        Args:
            ids: Of the answers to keep: those of a wave that was torn do not count.
            batch_size: For a restart, which must go on with the same one.
        """
        keep = set(ids)
        self.done = {name: one for name, one in self.done.items() if name in keep}
        self.batch_size = batch_size
        self._write(self.done)
        for part in self._parts():
            part.unlink()

    def record(self, batch_size: int) -> None:
        """Note that this process goes on with another batch size."""
        self.batch_size = batch_size
        if self._own == self.path:
            self._write(self.done)

    def finish(self, ids: Sequence[str]) -> None:
        """Write all answers in the order of the data set, whoever made them; rank 0 calls it when all are there.

        Raises:
            UsageError: Some are not: the processes do not see the same folder.
        """
        self.read_parts()
        missing = sum(name not in self.done for name in ids)
        if missing:
            raise UsageError(
                f"{self.path.parent}: {missing} of {len(ids)} answers are missing; processes on several machines need "
                "a folder that all of them see: give one with --run-path"
            )
        self._write(ids)
        for part in self._parts():
            part.unlink()

    def _write(self, ids: Iterable[str]) -> None:
        lines = [self._header(), *(_line(self.done[name]) for name in ids)]
        text = "".join(lines).encode("utf-8", "backslashreplace")
        if not self.path.is_file() or self.path.read_bytes() != text:
            with whole_file(self.path) as stream:
                stream.write(text)

    def _header(self) -> str:
        header = {"fingerprint": self.fingerprint, "batch_size": self.batch_size, "settings": self._settings}
        return json.dumps(header, ensure_ascii=False) + "\n"

    def append(self, batch: Iterable[Completion]) -> None:
        """Write a wave of answers to the disk and keep them. Raises OSError when the disk is full."""
        batch = list(batch)
        text = "".join(_line(one) for one in batch)
        if not self._own.exists():
            text = self._header() + text
        with open(self._own, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        self.done.update((one.id, one) for one in batch)


def _json_line(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line; None where a crash or a full disk has torn it."""
    try:
        row = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _line(one: Completion) -> str:
    return json.dumps(asdict(one), ensure_ascii=False) + "\n"


def fingerprint(settings: dict[str, Any]) -> str:
    """Return a short hash of JSON settings, independent of key order."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def model_fingerprint(folder: Path) -> dict[str, str]:
    """Return a hash per model and tokenizer file in a folder.

    Weight files are sampled (start, end and SAMPLES pieces between, with the size), which sees any training step and
    takes milliseconds for 14 GB; their times do not count, so that a copied folder stays the same model.

    Args:
        folder: A Hugging Face model directory.
    """
    kinds = (".safetensors", ".bin", ".pth", ".json", ".model", ".txt", ".jinja")
    return {path.name: _file_hash(path) for path in sorted(folder.iterdir()) if path.suffix in kinds and path.is_file()}


def _file_hash(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as stream:
        if size <= WHOLE:
            digest.update(stream.read())
        else:
            for index in range(SAMPLES + 1):
                stream.seek(index * (size - PIECE) // SAMPLES)
                digest.update(stream.read(PIECE))
    return digest.hexdigest()[:16]
