"""Writing files whole or not at all, under a temporary name beside the target, then renamed; and reading JSON back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from sorsa.errors import UsageError


def write_whole(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file so that a reader sees the old file or the complete new one, never a part.

    Raises:
        OSError: The disk is full or the folder is not writable; the old file is untouched.
    """
    with whole_file(path) as stream:
        stream.write(text.encode("utf-8"))


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[IO[bytes]]:
    """Yield a stream to a temporary file that becomes `path` when the block ends without an exception.

    Raises:
        OSError: The disk is full or the folder is not writable; the old file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 would make results unreadable to colleagues
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. Raises TypeError for what JSON cannot hold."""
    write_whole(path, json_text(value))


def json_text(value: Any) -> str:
    """Return `value` as indented JSON. Raises TypeError for what JSON cannot hold."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_json(path: Path, advice: str) -> Any:
    """Return the JSON value in a file.

    Args:
        path: The file.
        advice: What to do where it is damaged, the end of the message.

    Raises:
        UsageError: It cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; {advice}") from error
    except (ValueError, RecursionError) as error:  # json.JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise UsageError(f"{path}: not JSON ({error}); {advice}") from error


def read_json_object(path: Path, advice: str) -> dict[str, Any]:
    """Return the JSON object in a file; as `read_json`, and raises UsageError for any other JSON value too."""
    value = read_json(path, advice)
    if not isinstance(value, dict):
        raise UsageError(f"{path}: expected a JSON object, got {type(value).__name__}; {advice}")
    return value


def write_together(texts: Mapping[Path, str]) -> None:
    """Write several UTF-8 text files, all or none: none is renamed before all are on the disk.

    Raises:
        OSError: The disk is full or a folder is not writable; the old files are untouched.
    """
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(whole_file(path)) for path in texts]
        for stream, text in zip(streams, texts.values(), strict=True):
            stream.write(text.encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())


def _umask() -> int:
    """Return the process's umask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def whole_directory(target: Path | str, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary directory that becomes `target` when the block ends without an exception.

    Args:
        target: The final path.
        replace: Whether an existing `target` may be replaced; it stays in place until the new one is complete.

    Raises:
        FileExistsError: `target` exists and `replace` is false.
        OSError: Writing failed; `target` is as it was.
    """
    target = Path(target).resolve()  # a link, to a larger disk say, stays a link
    if target.exists() and not replace:
        raise FileExistsError(f"{target} exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield temporary
        for path in (temporary, *temporary.rglob("*")):  # mkdtemp and safetensors write for the owner alone
            path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
            os.replace(target, old)  # an empty directory may be replaced by a rename
            os.replace(temporary, target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
