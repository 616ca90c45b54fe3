"""The shell scripts: what the paper's ones pass to run.py, the demo's table, and a setup without a fitting Python."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa import cli
from sorsa.config_files import load_config

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.sh"))
RUNS = {method: f"llama2_{method}_r128" for method in ("lora", "pissa", "adalora", "sorsa")} | {"full": "llama2_full"}
every_method = pytest.mark.parametrize("method", RUNS)


@pytest.fixture
def called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Return a function that runs a script of a copied checkout and gives what it asked of run.py: mode and flags.

    The copy's .venv/bin/python3 writes its arguments down instead of running them.
    """
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    fake = tmp_path / ".venv" / "bin" / "python3"
    fake.parent.mkdir(parents=True)
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$PWD" "$@" END >> "$(dirname "$0")/calls"\n', encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # no run folder of the checkout's is looked at

    def call(script: str, *arguments: str) -> tuple[str, dict[str, Any]]:
        calls = fake.parent / "calls"
        calls.unlink(missing_ok=True)
        command = ["bash", str(tmp_path / "scripts" / script), *arguments]
        subprocess.run(command, check=True, cwd="/", env=os.environ | {"PATH": "/usr/bin:/bin"})
        folder, program, *words, end = calls.read_text(encoding="utf-8").splitlines()
        assert (folder, program, end, words.count("END")) == (str(tmp_path.resolve()), "run.py", "END", 0)
        return cli.parse(words)

    return call


@every_method
def test_training_script_is_the_papers_config(method: str, called: Callable) -> None:
    mode, flags = called(f"train_{method}.sh")
    assert (mode, flags["name"]) == ("train", RUNS[method])
    assert load_config(RUNS[method], mode, flags) == load_config(RUNS[method], mode, {})


@every_method
def test_merging_script_merges_what_the_training_script_trained(method: str, called: Callable) -> None:
    mode, flags = called(f"merge_{method}.sh", "--overwrite")
    assert (mode, flags["name"], flags["overwrite"]) == ("merge", RUNS[method], True)
    assert load_config(RUNS[method], mode, flags).peft == method


@every_method
@pytest.mark.parametrize(
    ("arguments", "dataset", "run"),
    [
        ([], "gsm-8k", "{run}"),
        (["math"], "math", "{run}"),
        (["--limit", "5"], "gsm-8k", "{run}"),
        (["humaneval", "--name", "{run}_code", "--allow-code-execution"], "humaneval", "{run}_code"),
    ],
)
def test_testing_script_takes_the_benchmark_first(
    method: str, arguments: list[str], dataset: str, run: str, called: Callable
) -> None:
    mode, flags = called(f"test_{method}.sh", *(word.format(run=RUNS[method]) for word in arguments))
    config = load_config(flags["name"], mode, flags)
    assert (mode, config.test_dataset, config.name) == ("test", dataset, run.format(run=RUNS[method]))
    assert (config.test_precision, config.peft) == ("bf16", method)
    assert config.limit == (5 if "--limit" in arguments else None)
    assert config.allow_code_execution == ("--allow-code-execution" in arguments)


@every_method
def test_commands_in_the_scripts_comments_are_understood(method: str, called: Callable) -> None:
    for script in (f"train_{method}.sh", f"test_{method}.sh"):
        text = (ROOT / "scripts" / script).read_text(encoding="utf-8")
        commands = re.findall(rf"bash scripts/{script} ((?:[^\s\[]+ ?)+)", text)
        assert commands
        for command in commands:
            mode, flags = called(script, *command.split())
            load_config(flags["name"], mode, flags)


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


@pytest.mark.parametrize("name", ["demo_sorsa_r16", "demorwkv6_sorsa_r16"])
def test_what_the_demo_recommends_is_understood(
    name: str, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "print_scores.py"))
    monkeypatch.setitem(script["main"].__globals__, "table", lambda *_: "")
    script["main"](tmp_path / name, "gsm-8k")
    commands = re.findall(r"python run\.py ((?:\S+ )+) ", capsys.readouterr().out)
    assert len(commands) == 3
    monkeypatch.chdir(ROOT)
    for command in commands:
        mode, flags = cli.parse(command.split())
        load_config(flags["name"], mode, flags)


@pytest.mark.parametrize(("arguments", "name"), [([], "demo_sorsa_r16"), (["--rwkv"], "demorwkv6_sorsa_r16")])
def test_the_demo_trains_merges_and_tests_one_run(arguments: list[str], name: str, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "demo.sh", tmp_path / "scripts")
    (tmp_path / "scripts" / "setup.sh").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho called "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    command = ["bash", str(tmp_path / "scripts" / "demo.sh"), *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    *runs, table = [line.split()[1:] for line in output.splitlines() if line.startswith("called")]
    modes = []
    for program, *words in runs:
        mode, flags = cli.parse(words)
        modes.append((mode, flags.get("base", False)))
        assert program == "run.py" and load_config(flags["name"], mode, flags).name == name
    assert modes == [("train", False), ("merge", False), ("test", True), ("test", False)]
    assert table == ["scripts/print_scores.py", f"runs/{name}", "gsm-8k"]


def test_the_demo_refuses_an_unknown_word() -> None:
    command = ["bash", str(ROOT / "scripts" / "demo.sh"), "--rvkw"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: --rvkw: not understood; bash scripts/demo.sh, or ")


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


def script_words(script: str, tmp_path: Path, *arguments: str) -> list[str]:
    """Return the words after run.py that a script passes on, without running it: python3 is replaced by printf."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "scripts").mkdir()
    fake = tmp_path / "bin" / "python3"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    (tmp_path / "scripts" / script).write_bytes((ROOT / "scripts" / script).read_bytes())
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = ["bash", str(tmp_path / "scripts" / script), *arguments]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()
    assert lines[0] == "run.py"
    return lines[1:]


def test_the_training_script_is_the_papers_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode, flags = cli.parse(script_words("train_sorsa.sh", tmp_path))
    monkeypatch.chdir(tmp_path)
    assert mode == "train"
    by_flags = load_config("llama2_sorsa_r128", mode, flags)
    assert by_flags == load_config("llama2_sorsa_r128", mode, {})
    (tmp_path / "empty").mkdir()
    alone = load_config("llama2_sorsa_r128", mode, flags, "empty")  # the flags suffice without any YAML
    assert alone == by_flags


@pytest.mark.parametrize(
    ("script", "arguments", "mode", "dataset"),
    [
        ("merge_sorsa.sh", (), "merge", None),
        ("test_sorsa.sh", (), "test", "gsm-8k"),
        ("test_sorsa.sh", ("humaneval", "--allow-code-execution"), "test", "humaneval"),
        ("test_sorsa.sh", ("--limit", "5"), "test", "gsm-8k"),
    ],
)
def test_the_other_scripts(
    script: str, arguments: tuple, mode: str, dataset: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, flags = cli.parse(script_words(script, tmp_path, *arguments))
    monkeypatch.chdir(tmp_path)
    config = load_config(flags["name"], found, flags)
    assert (found, config.test_dataset, config.model) == (mode, dataset, "meta-llama/Llama-2-7b-hf")
