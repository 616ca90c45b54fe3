"""The whole of --compare with the real stages on the demo's model: two methods, two learning rates, two seeds."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
import yaml

from sorsa import cli
from sorsa.comparison import RUN_PY
from sorsa.comparison.stages import Stages
from sorsa.config_files import CHECKOUT, load_config

TEST_FILE = CHECKOUT / "sorsa/demo/data/test.jsonl"
SETTINGS = {
    "model": str(CHECKOUT / "sorsa/demo/model"),
    "local": True,
    "rank": 4,
    "lr": 0.004,
    "lr_grid": [0.002, 0.004],
    "train_dataset": str(CHECKOUT / "sorsa/demo/data/train.jsonl"),
    "split": "[:8]",
    "length": 128,
    "workers": 1,
    "batch_size": 4,
    "accum_steps": 1,
    "max_steps": 2,
    "save_steps": 2,
    "mix_precision": ["fp32"],
    "test_dataset": "gsm-8k",
    "test_file": "test.jsonl",
    "valid_file": "valid.jsonl",
    "limit": 3,
    "max_new_tokens": 4,
}


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Run only the first stage in a process of its own, the others in this one: starting costs seconds each."""
    commands: list[list[str]] = []
    real = Stages._in_child

    def run(self: Stages, command: list[str], log: Path) -> tuple[int, str]:
        commands.append(command)
        if len(commands) == 1:
            return real(self, command, log)
        with contextlib.redirect_stdout(io.StringIO()) as output:
            return cli.main(command[2:]), output.getvalue()

    monkeypatch.setattr(Stages, "_in_child", run)
    return commands


def write_files() -> list[str]:
    """Write two question files without common questions and two configurations; return the latter's paths."""
    lines = TEST_FILE.read_text(encoding="utf-8").splitlines(keepends=True)
    Path("test.jsonl").write_text("".join(lines[:3]), encoding="utf-8")
    Path("valid.jsonl").write_text("".join(lines[3:6]), encoding="utf-8")
    for name, settings in (("demo_lora", {"peft": "lora"}), ("demo_sorsa", {"peft": "sorsa", "gamma": 0.05})):
        Path(f"{name}.yaml").write_text(yaml.safe_dump(SETTINGS | settings), encoding="utf-8")
    return ["demo_lora.yaml", "demo_sorsa.yaml"]


def test_two_methods_two_learning_rates_two_seeds(
    in_process: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["--compare", *write_files(), "--seeds", "2"]) == 0, capsys.readouterr().err
    home = Path("runs/comparison-demo")
    record = json.loads((home / "comparison.json").read_text(encoding="utf-8"))
    assert record["status"] == "finished"
    assert set(record["environments"][0]) == {"git", "versions", "host"}
    assert [method["peft"] for method in record["methods"]] == ["lora", "sorsa"]
    for method in record["methods"]:
        check_method(method, home)
    # per method: two trained, merged, validated; the first of them (no answer is right) tested; the second seed
    assert len(in_process) == 2 * (2 * 3 + 1 + 3)
    assert all(command[1] == str(RUN_PY) for command in in_process)
    table = capsys.readouterr().out
    assert "demo_sorsa" in table and "(n = 2)" in table


def check_method(method: dict, home: Path) -> None:
    """Check one method's entry against the folders of its runs."""
    assert method["trainable_parameters"] > 0 and method["test"]["n"] == 2
    assert [one["validation"]["total"] for one in method["grid"]] == [3, 3]
    for run in method["runs"]:
        folder = home / "runs" / run["run"]
        result = json.loads((folder / "results" / "gsm-8k.json").read_text(encoding="utf-8"))
        assert result["source"] == "test.jsonl" and result["accuracy"] == run["test"]["accuracy"]
        assert (folder / "adapter" / "adapter_config.json").is_file()
        assert not (folder / "merged").exists() and not (folder / "checkpoints").exists()
        assert run["steps"] == 2 and run["seconds_per_step"] > 0 and run["peak_host_bytes"] > 2**27
        again = load_config(run["run"], "train", {}, str(home / "configs"))  # one command repeats it
        assert (again.seed, again.lr, again.peft) == (run["seed"], method["lr"], method["peft"])
    first, second = (run["first_loss"] for run in method["runs"])
    assert first != second  # another seed, another order of the data
    for one in method["grid"]:
        validation = json.loads((home / "validation" / one["run"] / "results" / "gsm-8k.json").read_text())
        assert validation["source"] == "valid.jsonl"
