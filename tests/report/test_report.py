"""The whole report by the command line: its files, whole or not at all; and README's section from committed records."""

from __future__ import annotations

import csv
import json
import os
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sorsa import cli
from sorsa.config_files import CHECKOUT
from sorsa.errors import UsageError
from sorsa.report import CSV, report
from sorsa.report.markdown import compact_claims, results_section
from sorsa.report.sources import gather
from sorsa.report.tables import Column, Estimate, Table, as_markdown
from tests.report import conftest as made


@pytest.fixture
def runs(tmp_path: Path, stand_ins: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `runs` of a working directory: a comparison, a single tested run, one that is damaged."""
    monkeypatch.chdir(tmp_path)
    made.fill_comparison(tmp_path / "runs", ["mini_lora", "mini_sorsa"])
    made.write_test(made.write_run(tmp_path / "runs", "alone"), "0101")
    (made.write_run(tmp_path / "runs", "damaged") / "record.json").write_text("{")
    return tmp_path / "runs"


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_everything_is_written(runs: Path, capsys: pytest.CaptureFixture, stand_ins: list[list[str]]) -> None:
    assert cli.main(["--report"]) == 0
    assert capsys.readouterr().out == "report of 9 runs, 1 skipped: report/index.html\n"
    names = {"index.html", "report.md", "report.json", "records", "figures", *(f"{name}.csv" for name in CSV)}
    assert {path.name for path in Path("report").iterdir()} == names
    assert len(rows(Path("report/runs.csv"))) == 9 and len(rows(Path("report/table1.csv"))) == 19
    comparison = rows(Path("report/comparison.csv"))
    assert [row["group"] for row in comparison] == ["base model", "mini_lora", "mini_sorsa", "alone"]
    assert float(comparison[2]["dSigma"]) == pytest.approx(0.21) and comparison[3]["dSigma"] == ""
    claims = rows(Path("report/claims.csv"))
    assert [row["comparison"] for row in claims] == ["mini"] * 2 + ["single runs"] * 2
    assert (claims[0]["difference"], claims[0]["difference_low"], claims[1]["difference"]) == ("-0.25", "-0.5", "")
    assert [len(names) for names in stand_ins] == [8, 1]  # claims are about one comparison at a time
    assert len(rows(Path("report/switches.csv"))) == 9
    assert {path.name for path in Path("report/figures").iterdir()} == {"_single-runs", "mini"}
    facts = json.loads(Path("report/report.json").read_text())
    assert facts["looked_in"] == ["runs"] and "damaged/record.json: not JSON" in facts["skipped"][0]


def test_a_comparison_called_as_single_runs_are_keeps_its_own_figures(runs: Path) -> None:
    Path("runs/comparison-mini").rename("runs/comparison-single-runs")
    report(runs, [], Path("report"))
    assert {path.name for path in Path("report/figures").iterdir()} == {"_single-runs", "single-runs"}
    page = Path("report/index.html").read_text(encoding="utf-8")
    assert page.count('id="table-scores-comparison-single-runs"') == 1


def test_markdown_has_the_same_parts(runs: Path) -> None:
    report(runs, [], Path("report"))
    text = Path("report/report.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# SORSA: report",
        "## What the paper claims",
        "## Comparison “mini”",
        "### Scores and cost",
        "### How the weights moved",
        "## Single runs",
        "### Scores and cost",
        "## The paper's Table 1",
        "## Runs",
        "## Where paper and code differ",
        "## Switches of each run",
    ]
    assert "damaged/record.json" in text.split("## ")[0]
    assert "![The loss](figures/mini/loss.png)" in text
    assert "Left out: 2 runs that were not tested, not finished, or tried a learning rate" in text
    assert (
        "| converges faster | yes | -0.25 (-0.5 to -0.125) | loss | mini\\_lora | 3 | mini | It is &lt;lower&gt;. |"
        in text
    )
    assert "gsm-8k: 40 questions of test.jsonl, rule ours." in text


def test_a_report_of_a_report_says_the_same(runs: Path) -> None:
    assert cli.main(["--report"]) == 0
    assert cli.main(["--report", "--records", "report", "--output", "again"]) == 0
    for name in ("table1", "claims", "comparison", "runs", "switches"):
        first, second = (rows(Path(folder) / f"{name}.csv") for folder in ("report", "again"))
        assert sorted(map(str, first)) == sorted(map(str, second))
    page = Path("again/index.html").read_text(encoding="utf-8")
    assert '"answers":null' in page and '"answers":[[' not in page


def test_records_and_run_path_together(runs: Path) -> None:
    assert cli.main(["--report", "--output", "one"]) == 0
    made.write_run(Path("more"), "another")
    words = ["--report", "--records", "one", "--run-path", "more", "--output", "two"]
    assert cli.main(words) == 0
    assert len(list(Path("two/records").iterdir())) == 10


def test_mixed_versions_are_said_in_the_report(runs: Path, capsys: pytest.CaptureFixture) -> None:
    made.write_run(runs, "newer", versions=made.VERSIONS | {"peft": "0.22.0"})
    assert cli.main(["--report"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "error: records of mixed versions: peft 0.21.2 (alone) and 0.22.0 (newer)." in line
    assert not Path("report").exists()
    assert cli.main(["--report", "--allow-mixed"]) == 0
    note = "Versions are mixed, as --allow-mixed allows: peft 0.21.2 (alone) and 0.22.0 (newer)."
    assert note in Path("report/report.md").read_text() and note in Path("report/index.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run-path", "nothing"], "--run-path nothing: no such folder"),
        (["--records", "nothing"], "--records nothing: no such folder"),
        (["--run-path", "empty"], "no records in empty. Train and test a run first"),
        (["--output", "file"], "--output file is a file; name a folder"),
        (["--output", "mine"], "--output mine holds 'notes.txt' and is no report, or not one alone: a report replaces"),
        (["--lr", "1"], "--lr does not go with --report, only --run-path, --records, --output, --allow-mixed do"),
        (["--json"], "--json belongs to --plan and --compare-runs, not to --report"),
    ],
)
def test_mistakes(runs: Path, capsys: pytest.CaptureFixture, words: list[str], message: str) -> None:
    Path("empty").mkdir()
    Path("file").write_text("")
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("")
    assert cli.main(["--report", *words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith(f"error: {message}")
    assert not Path("report").exists() and Path("mine/notes.txt").exists()


def test_flags_of_the_report_belong_to_it(runs: Path, capsys: pytest.CaptureFixture) -> None:
    for flag in (["--records", "x"], ["--allow-mixed"]):
        assert cli.main(["--name", "x", "--plan", *flag]) == 2
        assert f"{flag[0]} belongs to --report, not to --plan" in capsys.readouterr().err


def test_an_earlier_report_is_replaced_and_nothing_else(runs: Path, capsys: pytest.CaptureFixture) -> None:
    Path("report").mkdir()
    assert cli.main(["--report"]) == 0  # an empty folder may be replaced
    stale = Path("report/records/alone.json")
    assert stale.is_file()
    shutil.rmtree(runs / "alone")
    assert cli.main(["--report"]) == 0
    assert not stale.exists()
    for name in ("notes.txt", "records/another.json", "figures/mine/plot.png"):
        Path("report", name).parent.mkdir(exist_ok=True)
        Path("report", name).write_text("mine")
        assert cli.main(["--report"]) == 2
        assert f"--output report holds '{name}'" in capsys.readouterr().err
        assert Path("report", name).read_text() == "mine"
        Path("report", name).unlink()
    assert cli.main(["--report"]) == 0
    Path("report/report.json").write_text('{"made_by": "run.py --report"}')  # without the list of its files
    assert cli.main(["--report"]) == 2


def test_texts_that_are_no_utf_8_and_names_of_anything(runs: Path) -> None:
    """Half a surrogate pair in a record, as JSON can say it; folders with bytes, a line break and markup as names."""
    record = json.loads((runs / "alone" / "record.json").read_text())
    record["config"]["model"] = "base \ud800"
    made.write_json(runs / "alone" / "record.json", record)
    for name in (b"b\xff", b"two\n<b>lines`"):
        shutil.copytree(runs / "alone", os.fsdecode(os.fsencode(runs) + b"/" + name))
    report(runs, [], Path("report"))
    text = Path("report/report.md").read_text(encoding="utf-8")
    assert "base \\\\ud800" in text  # the escape, escaped for Markdown
    assert r"b\\udcff" in text and r"/two &lt;b&gt;lines\`: name" in text
    assert "two <b>lines" not in Path("report/index.html").read_text(encoding="utf-8")
    assert cli.main(["--report", "--records", "report", "--output", "again"]) == 0


def test_a_failure_leaves_the_earlier_report(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(runs, [], Path("report"))
    before = Path("report/index.html").read_bytes()

    def fail(records: list, directory: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sorsa.report.figures.draw_all", fail)
    with pytest.raises(OSError, match="No space left"):
        report(runs, [], Path("report"))
    assert Path("report/index.html").read_bytes() == before
    assert not [path for path in Path().iterdir() if path.name.startswith(".report")]


def test_readme_says_what_the_committed_records_say() -> None:
    script = runpy.run_path(str(CHECKOUT / "scripts" / "update_readme.py"))
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    assert script["updated"](readme, script["section"](CHECKOUT / "results")) == readme


def test_the_section_on_results(runs: Path) -> None:
    text = results_section(gather(runs, []).records, {"mini": ["mini_lora (0.004, the largest of 0.002, 0.004)"]})
    how_to_read, about = text.split("\n\n")[:2]
    assert how_to_read.startswith("Mean ± standard deviation over seeds") and how_to_read.endswith("there is no mean.")
    assert about.startswith("**Comparison “mini”.** gsm-8k: ")
    assert about.endswith("a better one may lie beyond: mini\\_lora (0.004, the largest of 0.002, 0.004).")
    assert "**Single runs.**" in text and "| 0.004 | 3 | 1,234 | 0.500 ± 0.000 |" in text
    claims = text.split("**What the paper claims.**")[1].splitlines()[2:]
    assert claims == [
        "| measure | comparison | holds against |",
        "| --- | --- | --- |",
        "| loss | mini | mini\\_lora -0.25 (-0.5 to -0.125) |",
        "| loss | single runs | mini\\_lora -0.25 (-0.5 to -0.125) |",
    ]
    assert results_section([], {}) == ""


def test_claims_of_one_measure_stand_in_one_row() -> None:
    row = {"comparison": "mini", "set": "m", "method": "SORSA", "measure": "loss", "holds": "no"}
    gap = {"difference": Estimate(0.5, (0.25, 0.75))}
    claims = [
        row | gap | {"against": "LoRA"},
        row | gap | {"against": "D"},
        row | gap | {"against": "X", "holds": "yes"},
    ]
    nothing = row | {"holds": "not measured", "difference": None}
    claims += [nothing | {"against": "Z"}, nothing | {"against": "Y", "method": "squared"}]
    columns = (Column("difference", "difference", "signed", ("interval",)),)
    assert as_markdown(compact_claims(Table("claims", "", "", columns, tuple(claims)))).splitlines()[2:] == [
        "| loss | SORSA | mini | X +0.5 (+0.25 to +0.75) | LoRA +0.5 (+0.25 to +0.75); D +0.5 (+0.25 to +0.75) | Z |",
    ]


def test_what_single_runs_do_not_measure_is_only_counted(runs: Path) -> None:
    report(runs, [], Path("report"))
    text = Path("report/report.md").read_text(encoding="utf-8")
    claims = text.split("## What the paper claims")[1].split("## ")[0]
    assert "1 of single runs, which were not measured, stand in claims.csv alone." in claims
    assert [line.split(" | ")[-2] for line in claims.splitlines()[6:-1]] == ["mini", "mini", "single runs"]
    assert len(rows(Path("report/claims.csv"))) == 4


def test_the_script_changes_readme_between_its_marks(
    runs: Path, make_report: Callable[..., Path], capsys: pytest.CaptureFixture
) -> None:
    script = runpy.run_path(str(CHECKOUT / "scripts" / "update_readme.py"))
    make_report(runs, output="results/mini")
    Path("README.md").write_text("before\n<!-- results:begin -->\nearlier\n<!-- results:end -->\nafter\n")
    assert script["main"](Path()) == 0
    text = Path("README.md").read_text()
    assert text.startswith("before\n<!-- results:begin -->\nMean ± standard deviation") and "earlier" not in text
    assert text.endswith("|\n<!-- results:end -->\nafter\n")
    assert script["main"](Path()) == 0 and Path("README.md").read_text() == text
    Path("results/mini/records/alone.json").write_text("{")
    assert script["main"](Path()) == 2
    assert "error: a committed record is damaged: results/mini/records/alone.json: not JSON" in capsys.readouterr().err
    shutil.rmtree("results")
    assert script["main"](Path()) == 2 and Path("README.md").read_text() == text
    assert "error: no records in results/*/records" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"README\.md has no <!-- results:begin --> before a <!-- results:end -->"):
        script["updated"]("nothing", "")
