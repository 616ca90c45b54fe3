"""Files and folders are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sorsa.errors import UsageError
from sorsa.files import read_json, read_json_object, whole_directory, write_json, write_together, write_whole


@pytest.fixture
def umask() -> int:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"old": 1})
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "\udcff")
    with pytest.raises(TypeError):
        write_json(file, {"new": object()})
    assert file.read_text() == '{\n  "old": 1\n}\n'
    assert names(tmp_path) == ["a.json"]


def test_several_files_are_written_all_or_none(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    write_together({one: "a", two: "b"})
    with pytest.raises(UnicodeEncodeError):
        write_together({one: "new", two: "\udcff"})
    assert (one.read_text(), two.read_text()) == ("a", "b") and names(tmp_path) == ["1", "2"]


def test_a_failed_directory_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), whole_directory(tmp_path / "d") as folder:
        (folder / "part").write_text("x")
        raise OSError("full")
    assert names(tmp_path) == []


def test_a_failed_replacement_leaves_the_old_directory(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "d") as folder:
        (folder / "old").write_text("x")
    with pytest.raises(FileExistsError, match="d exists"), whole_directory(tmp_path / "d"):
        pass
    with pytest.raises(OSError, match="full"), whole_directory(tmp_path / "d", replace=True):
        raise OSError("full")
    assert names(tmp_path / "d") == ["old"]
    with whole_directory(tmp_path / "d", replace=True) as folder:
        (folder / "new").write_text("x")
    assert (names(tmp_path), names(tmp_path / "d")) == (["d"], ["new"])


def test_a_linked_target_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "d").mkdir(parents=True)
    (tmp_path / "d").symlink_to(tmp_path / "disk" / "d")
    with whole_directory(tmp_path / "d", replace=True) as folder:
        (folder / "new").write_text("x")
    assert (tmp_path / "d").is_symlink() and names(tmp_path / "disk" / "d") == ["new"]


def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    write_whole(tmp_path / "a", "x")
    with whole_directory(tmp_path / "d") as folder:
        (folder / "w").touch(0o600)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "a", tmp_path / "d", tmp_path / "d" / "w")]
    assert modes == [0o640, 0o750, 0o640]


def test_read_json_names_what_is_wrong(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(UsageError, match=r"cannot read .*a\.json: No such file or directory; look again"):
        read_json(path, "look again")
    for content in (b"{", b"\xff", b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"a\.json: not JSON \(.*\); look again"):
            read_json(path, "look again")
    path.write_text("[1]")
    assert read_json(path, "look again") == [1]
    with pytest.raises(UsageError, match=r"a\.json: expected a JSON object, got list; look again"):
        read_json_object(path, "look again")
    path.write_text('{"a": 1}')
    assert read_json_object(path, "look again") == {"a": 1}
