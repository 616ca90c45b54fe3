"""Where records come from: damaged ones are skipped and said, none at all and mixed versions are refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sorsa.errors import UsageError
from sorsa.report.records import collect, write_records
from sorsa.report.sources import gather
from tests.report import conftest as made


def test_run_folders_and_record_files_together(tmp_path: Path) -> None:
    made.write_run(tmp_path / "runs", "a")
    write_records([collect(made.write_run(tmp_path / "other", "b"), None)], tmp_path / "kept" / "records")
    sources = gather(tmp_path / "runs", [tmp_path / "kept"])
    assert [record["name"] for record in sources.records] == ["a", "b"]
    assert sources.folders == {0: tmp_path / "runs" / "a"}
    assert sources.looked_in == [str(tmp_path / "runs"), str(tmp_path / "kept")]
    assert (sources.skipped, sources.notes) == ([], [])


def test_damaged_ones_are_skipped_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made.write_run(tmp_path / "runs", "good")
    made.write_run(tmp_path / "runs", "bad")
    (tmp_path / "runs" / "bad" / "record.json").write_text("{")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "x.json").write_text("[]")
    with caplog.at_level(logging.WARNING, "sorsa"):
        sources = gather(tmp_path / "runs", [tmp_path / "kept"])
    assert [record["name"] for record in sources.records] == ["good"]
    assert len(sources.skipped) == 2
    assert "bad/record.json: not JSON" in sources.skipped[0]
    assert "kept/x.json: expected a JSON object, got list" in sources.skipped[1]
    assert [record.getMessage() for record in caplog.records] == [f"skipped: {line}" for line in sources.skipped]


def test_a_file_that_may_not_be_read_is_skipped_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good", "locked"):
        made.write_run(tmp_path, name)
    read = Path.read_text

    def refuse(path: Path, *arguments: str, **options: str) -> str:  # root may read everything
        if path.parts[-2:] == ("locked", "metrics.jsonl"):
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    sources = gather(tmp_path, [])
    assert [record["name"] for record in sources.records] == ["good"]
    assert sources.skipped == [f"{tmp_path / 'locked' / 'metrics.jsonl'}: cannot be read (Permission denied)"]


def test_a_run_counts_once(tmp_path: Path) -> None:
    run = made.write_run(tmp_path / "runs", "a")
    write_records([collect(run, None)], tmp_path / "kept")
    sources = gather(tmp_path / "runs", [tmp_path / "kept"])
    assert len(sources.records) == 1
    assert sources.skipped == [f"{tmp_path / 'kept' / 'a.json'}: the run 'a' was already read from {run}"]


def test_no_records_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no records in .*/empty\. Train and test .* --run-path DIR .* --records DIR"):
        (tmp_path / "empty").mkdir()
        gather(tmp_path / "empty", [])
    (tmp_path / "empty" / "x.json").write_text("{")
    with pytest.raises(UsageError, match=r"no records in .*/empty; 1 skipped, the first: .*x\.json: not JSON"):
        gather(None, [tmp_path / "empty"])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--run-path .*/no: no such folder; name one with run folders \(runs/NAME\)"):
        gather(tmp_path / "no", [])
    with pytest.raises(UsageError, match=r"--records .*/no: no such folder; name one with record files"):
        gather(tmp_path, [tmp_path / "no"])


@pytest.mark.parametrize("package", ["sorsa", "torch", "transformers", "peft"])
def test_mixed_versions_are_refused_unless_asked_for(tmp_path: Path, package: str) -> None:
    made.write_run(tmp_path, "a")
    made.write_run(tmp_path, "b", versions=made.VERSIONS | {package: "9.9"})
    line = f"{package} {made.VERSIONS[package]} (a) and 9.9 (b)"
    with pytest.raises(UsageError) as caught:
        gather(tmp_path, [])
    assert str(caught.value) == (
        f"records of mixed versions: {line}. Differences between such runs may be those of the versions: leave some "
        "out, or add --allow-mixed"
    )
    sources = gather(tmp_path, [], allow_mixed=True)
    assert len(sources.records) == 2
    assert sources.notes == [f"Versions are mixed, as --allow-mixed allows: {line}."]


def test_other_packages_may_differ(tmp_path: Path) -> None:
    made.write_run(tmp_path, "a")
    made.write_run(tmp_path, "b", versions=made.VERSIONS | {"fla-core": "1.0"})
    assert gather(tmp_path, []).notes == []


def test_a_test_with_another_version_than_the_training_is_mixed_too(tmp_path: Path) -> None:
    run = made.write_run(tmp_path, "a")
    newer = made.ENVIRONMENT | {"versions": made.VERSIONS | {"torch": "9.9"}}
    made.write_test(run, "01", environment=newer)
    with pytest.raises(UsageError, match=r"mixed versions: torch 2\.13\.0 \(a\) and 9\.9 \(a\)"):
        gather(tmp_path, [])


def test_another_schema_is_mixed_too(tmp_path: Path) -> None:
    made.write_run(tmp_path / "runs", "a")
    made.write_json(tmp_path / "kept" / "later.json", {"schema": 2, "name": "later"})
    with pytest.raises(UsageError, match=r"mixed versions: record schema 1 \(a\) and 2 \(later\)\. .* --allow-mixed"):
        gather(tmp_path / "runs", [tmp_path / "kept"])
    sources = gather(tmp_path / "runs", [tmp_path / "kept"], allow_mixed=True)
    assert len(sources.records) == 1 and "record schema 2; this version reads 1" in sources.skipped[0]
    with pytest.raises(
        UsageError, match=r"no records in .* 1 skipped, the first: .* record schema 2; this version reads 1"
    ):
        gather(None, [tmp_path / "kept"])
