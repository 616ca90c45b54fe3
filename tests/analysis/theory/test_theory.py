"""`run.py --theory`: from the command line to record, report and figures; determinism, interruption, bad input."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import pytest

from sorsa import cli
from sorsa.analysis.theory import lemma_5_1, lemma_5_5, rounded, theorem_5_4, theorem_5_6
from sorsa.analysis.theory.figures import draw_figures
from sorsa.analysis.theory.report import as_markdown, as_table, overall

MODULES = (lemma_5_1, theorem_5_4, lemma_5_5, theorem_5_6)
FILES = {f"{module.KEY}.{kind}" for module in MODULES for kind in ("svg", "png")} | {"theory.json", "theory.md"}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole check with one training per setting, made by the command line."""
    folder = tmp_path_factory.mktemp("theory") / "made" / "here"
    assert cli.main(["--theory", "--output", str(folder), "--seed", "7", "--problems", "1"]) == 0
    return folder


@pytest.fixture
def record(output: Path) -> dict[str, Any]:
    return json.loads((output / "theory.json").read_text(encoding="utf-8"))


def lasting(record: dict[str, Any]) -> dict[str, Any]:
    """Return what does not depend on time, host and command."""
    kept = {key: value for key, value in record.items() if key not in ("git", "command", "host")}
    kept["statements"] = [{k: v for k, v in one.items() if k != "seconds"} for one in kept["statements"]]
    return kept


def test_everything_is_written(output: Path, record: dict[str, Any]) -> None:
    assert {path.name for path in output.iterdir()} == FILES
    assert (record["seed"], record["problems"]) == (7, 1) and record["versions"]["torch"]
    assert [one["key"] for one in record["statements"]] == [module.KEY for module in MODULES]
    for one in record["statements"]:
        assert xml.etree.ElementTree.parse(output / f"{one['key']}.svg").getroot().tag.endswith("svg")
        assert (output / f"{one['key']}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        for claim in one["claims"]:
            assert claim["problems"] > 0 and claim["worst"]["problem"], claim["key"]


def test_the_same_record_gives_the_same_figure(output: Path, record: dict[str, Any], tmp_path: Path) -> None:
    draw_figures({"statements": record["statements"][2:3]}, tmp_path)
    for name in ("lemma_5_5.svg", "lemma_5_5.png"):
        assert (tmp_path / name).read_bytes() == (output / name).read_bytes()


@pytest.mark.parametrize("module", MODULES, ids=[module.KEY for module in MODULES])
def test_the_same_seed_gives_the_same_statement(module: Any, record: dict[str, Any]) -> None:
    old = next(one for one in lasting(record)["statements"] if one["key"] == module.KEY)
    assert json.dumps(rounded(module.check(7, 1, lambda: None))) == json.dumps(old)


def test_another_seed_gives_other_problems(record: dict[str, Any]) -> None:
    assert rounded(lemma_5_5.check(8, 1, lambda: None)) != lasting(record)["statements"][2]


def _stub(monkeypatch: pytest.MonkeyPatch, module: Any, record: dict[str, Any]) -> None:
    """Replace a statement's check by what it has found before."""
    found = next(one for one in lasting(record)["statements"] if one["key"] == module.KEY)
    monkeypatch.setattr(module, "check", lambda *_: copy.deepcopy(found))


def test_an_interrupted_check_goes_on(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sorsa.analysis.theory.figures.draw_figures", lambda *_: None)
    clean = {key: record[key] for key in ("versions", "command", "host")} | {"git": {"commit": "c", "dirty": False}}
    monkeypatch.setattr("sorsa.run_folder.environment", lambda: clean)
    for module in MODULES:
        _stub(monkeypatch, module, record)

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(theorem_5_6, "check", stopped)
    words = ["--theory", "--output", str(tmp_path), "--seed", "7", "--problems", "1"]
    assert cli.main(words) == 130
    assert {path.name for path in tmp_path.iterdir()} == {"theory.unfinished.json"}
    _stub(monkeypatch, theorem_5_6, record)
    monkeypatch.setattr(lemma_5_1, "check", stopped)  # not called again
    assert cli.main([*words[:-1], "2"]) == 130  # but with other numbers it is
    assert cli.main(words) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"theory.json", "theory.md"}
    assert "Lemma 5.1" in capsys.readouterr().out
    assert lasting(json.loads((tmp_path / "theory.json").read_text(encoding="utf-8"))) == lasting(record)


def test_a_changed_checkout_starts_anew(
    record: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dirty = {key: record[key] for key in ("versions", "command", "host")} | {"git": {"commit": "c", "dirty": True}}
    monkeypatch.setattr("sorsa.run_folder.environment", lambda: dirty)
    called = []
    for module in MODULES:
        monkeypatch.setattr(module, "check", lambda *_, key=module.KEY: called.append(key) or 1 / 0)
    before = record | dirty
    (tmp_path / "theory.unfinished.json").write_text(json.dumps(before), encoding="utf-8")
    with pytest.raises(ZeroDivisionError):
        cli.main(["--theory", "--output", str(tmp_path), "--seed", "7", "--problems", "1"])
    assert called == ["lemma_5_1"]


def test_the_report_says_what_the_numbers_say(record: dict[str, Any]) -> None:
    lemma, theorem = record["statements"][0], record["statements"][3]
    assert overall(lemma) == "holds" and overall(theorem) == "fails"
    text = as_markdown(record)
    assert "As stated: **holds**." in text and "counterexample to follow by hand" in text
    lipschitz = next(claim for claim in lemma["claims"] if claim["key"] == "lipschitz")
    lipschitz["holds"] -= 1
    for claim in theorem["claims"]:
        claim["holds"], claim["ties"] = claim["problems"], 0
    example = theorem["example"]
    example["kappa regularized"] = [0.5 * value for value in example["kappa unregularized"]]
    assert overall(lemma) == "fails" and overall(theorem) == "holds"
    changed = as_markdown(record)
    assert "counterexample" not in changed.split("## Theorem 5.6")[1]
    assert re.search(r"lipschitz +\d+ +\d+\.\d% +\S+  fails", as_table(record))
    assert "at t = 1, grad L_train constant | holds in all" in changed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--problems 0", r"--problems 0: must be at least 1"),
        ("--problems -3", r"--problems -3: must be at least 1"),
        ("--problems many", r"argument --problems: invalid int value: 'many'"),
        ("--seed -1", r"--seed = '-1': must be at least 0"),
        ("--seed x", r"--seed = 'x': must be a whole number"),
        ("--output file", r"--output file: not a folder to write to \(File exists\); name another one"),
        ("--output file/below", r"--output file/below: not a folder to write to \(Not a directory\)"),
        ("--rank 4", r"--rank does not go with --theory, only --output, --seed, --problems do"),
        ("--train", r"2 modes given \(--train, --theory\)"),
    ],
)
def test_bad_input_is_one_line(
    words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x", encoding="utf-8")
    assert cli.main(["--theory", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert re.search(message, err), err
    assert Path("file").read_text(encoding="utf-8") == "x" and not Path("theory").exists()


def test_problems_belong_to_theory(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["--name", "x", "--train", "--problems", "3"]) == 2
    assert "--problems belongs to --theory, not to --train" in capsys.readouterr().err
