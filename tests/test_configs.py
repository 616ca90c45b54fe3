"""Every YAML in configs/ passes the checks of its own modes, and its header says what STYLE asks of a lab note."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from sorsa.config_files import CHECKOUT, load_config

CONFIGS = sorted((CHECKOUT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", ["train", "merge", "test", "export"])
def test_validates(path: Path, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no run folder, and the shipped files are found from anywhere
    config = load_config(path.stem, mode, {"test_dataset": "gsm-8k"})
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings.pop("parent", None)
    for name, value in settings.items():
        found = getattr(config, name)
        assert found == value or str(found).endswith(str(value)), name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_header_has_a_command_the_hardware_and_the_score(path: Path) -> None:
    header = path.read_text(encoding="utf-8").split("\nmodel:")[0]
    assert re.search(rf"run\.py --name {path.stem} --train|bash scripts/", header)
    assert "Hardware:" in header


def test_the_papers_run_has_the_papers_values() -> None:
    config = load_config("llama2_sorsa_r128", "train", {})
    assert (config.model, config.rank, config.lr, config.gamma) == ("meta-llama/Llama-2-7b-hf", 128, 3e-5, 4e-4)
    assert (config.train_dataset, config.split, config.length) == ("metamath", "[:100000]", 512)
    assert config.batch_size * config.accum_steps == 128
    assert 100000 // 128 == 781  # T, the last partial batch dropped
