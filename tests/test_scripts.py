"""The shell scripts: the table at the end of the demo, and a setup without a fitting Python."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from sorsa import cli
from sorsa.config_files import load_config

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_parse_and_work_from_any_directory(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text and 'cd "$(dirname "${BASH_SOURCE[0]}")/.."' in text


def test_scores_beside_each_other(tmp_path: Path) -> None:
    run = tmp_path / "demo"
    (run / "results").mkdir(parents=True)
    for stem, right in (("base-gsm-8k", 1), ("gsm-8k", 50)):
        rows = "".join(json.dumps({"correct": index < right}) + "\n" for index in range(100))
        (run / "results" / f"{stem}.jsonl").write_text(rows, encoding="utf-8")
    lines = runpy.run_path(str(ROOT / "scripts" / "print_scores.py"))["table"](run, "gsm-8k").splitlines()
    assert lines[1].split() == ["base", "model", "1", "100", "1.0%", "0.2", "to", "5.4%"]
    assert lines[2].split() == ["demo,", "merged", "50", "100", "50.0%", "40.4", "to", "59.6%"]


def test_what_the_demo_recommends_is_understood(
    capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "print_scores.py"))
    monkeypatch.setitem(script["main"].__globals__, "table", lambda *_: "")
    script["main"](tmp_path, "gsm-8k")
    commands = re.findall(r"python run\.py ((?:\S+ )+) ", capsys.readouterr().out)
    assert len(commands) == 3
    monkeypatch.chdir(ROOT)
    for command in commands:
        mode, flags = cli.parse(command.split())
        load_config(flags["name"], mode, flags)


def test_setup_without_a_fitting_python(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    environment = {"PYTHON": "/nonexistent/python", "PATH": "/usr/bin:/bin"}
    command = ["bash", str(tmp_path / "scripts" / "setup.sh")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Python 3.11 or newer found (tried /nonexistent/python): install one")
    assert not (tmp_path / ".venv").exists()
