"""Completions on disk: one JSON line per answer, appended as generated, reused on restart.

The first line is a header with the fingerprint of all that determines the answers; a file with another fingerprint is
begun anew. A torn last line (power cut, kill -9) is cut off.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sorsa.errors import UsageError
from sorsa.files import write_whole

logger = logging.getLogger(__name__)

SAMPLES = 64  # pieces read from each weight file for its fingerprint
PIECE = 1 << 16  # bytes of one piece
WHOLE = 32 << 20  # files up to this size are read whole


@dataclass(frozen=True)
class Completion:
    """One generated answer: question id, text, number of new tokens, and whether it hit the length limit."""

    id: str
    completion: str
    tokens: int
    truncated: bool


class CompletionStore:
    """The completions file of one test.

    Args:
        path: The file; its folder is made.
        settings: Everything that determines the answers, as JSON types; its hash is the fingerprint.
        overwrite: Whether answers of another fingerprint may be replaced.

    Raises:
        UsageError: The file holds answers of another fingerprint and `overwrite` is false.
    """

    def __init__(self, path: Path, settings: dict[str, Any], overwrite: bool) -> None:
        self.path, self._settings, self._overwrite = path, settings, overwrite
        self.fingerprint = fingerprint(settings)
        self.done: dict[str, Completion] = {}
        good = self._read()
        if good is None:
            header = {"fingerprint": self.fingerprint, "settings": settings}
            write_whole(path, json.dumps(header, ensure_ascii=False) + "\n")
        elif good < path.stat().st_size:
            os.truncate(path, good)

    def _read(self) -> int | None:
        """Load the answers of an earlier run; return the length of the valid part, None to begin anew."""
        if not self.path.is_file():
            return None
        good = 0
        with open(self.path, "rb") as stream:
            for number, line in enumerate(stream):
                if not line.endswith(b"\n"):
                    break  # torn by a crash or a full disk, as is what JSON cannot read
                try:
                    row = json.loads(line)
                    if number:
                        self.done[row["id"]] = Completion(**row)
                    same = number > 0 or row["fingerprint"] == self.fingerprint
                except (ValueError, TypeError, KeyError):
                    break
                if not same:
                    self._check_replaceable(row["settings"])
                    return None
                good += len(line)
        return good or None

    def _check_replaceable(self, before: dict[str, Any]) -> None:
        """Refuse to throw hours of generation away unasked."""
        if not self._overwrite:
            changed = [key for key in self._settings if before.get(key) != self._settings[key]]
            raise UsageError(
                f"{self.path} holds answers made with another {', '.join(changed)}: replace them and their score with "
                "--overwrite, or move the results folder away first"
            )
        logger.info("%s is of another model or other settings; generating anew", self.path)

    def append(self, batch: Iterable[Completion]) -> None:
        """Write a batch of answers to the disk and keep them. Raises OSError when the disk is full."""
        batch = list(batch)
        text = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in batch)
        with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        self.done.update((one.id, one) for one in batch)


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
