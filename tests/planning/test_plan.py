"""`run.py --plan` from the command line: its output, its errors, and the measured steps."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa import cli, planning
from sorsa.config import RunConfig
from sorsa.config_files import load_config
from sorsa.errors import UsageError
from sorsa.planning.architectures import EMBEDDED, build_skeleton

KEYS = {
    "trainable_parameters", "total_parameters", "trainable_by_kind", "optimizer_steps", "warmup_steps", "learning_rate",
    "tokens", "bytes", "fits", "paper", "samples", "global_batch", "save_steps", "name", "model", "method",
}  # fmt: skip


def test_json_of_a_7b_run(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["--name", "llama2_sorsa_r128", "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan.keys() == KEYS
    assert (plan["trainable_parameters"], plan["optimizer_steps"]) == (319_844_352, 781)
    assert plan["paper"]["trainable_millions"] == 320
    sizes = plan["bytes"]
    assert sizes["weights"] == pytest.approx(4 * 6_738_415_616, rel=1e-6)
    assert sizes["residuals"] == 2 * 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    assert sizes["gradients"] == 4 * 319_844_352 == sizes["optimizer_state"] // 2 == sizes["adapter"]
    plain, recomputed = (sizes["total"][key] for key in ("without_checkpointing", "with_checkpointing"))
    assert 45e9 < recomputed < plain < 60e9
    assert plan["fits"]["80"] == {"without_checkpointing": True, "with_checkpointing": True}
    assert plan["fits"]["40"] == {"without_checkpointing": False, "with_checkpointing": False}


def test_text(capsys: pytest.CaptureFixture, tiny_config: Callable[..., Any]) -> None:
    planning.plan(tiny_config(peft="lora"))
    text = capsys.readouterr().out
    for line in (
        r"^tiny: lora on .*/model$",
        r"^  q_proj +512$",
        r"^  all of them +3,712$",
        r"^  optimizer steps T +6$",
        r"^    k = 3 \(T/2\) +0\.0006545$",
        r"^  fits in 24 GB +yes +yes$",
    ):
        assert re.search(line, text, re.MULTILINE), (line, text)


def test_adaloras_allocator_and_final_rank_are_counted(tiny_config: Callable[..., Any]) -> None:
    settings = {"peft": "adalora", "t_init": 1, "t_final": 2}
    plan = planning.make_plan(tiny_config(init_rank=6, **settings))
    assert plan["bytes"]["rank_allocator"] == 3 * plan["bytes"]["gradients"]
    smaller = planning.make_plan(tiny_config(**settings))["bytes"]["disk"]["adapter"]
    assert plan["bytes"]["disk"]["adapter"] == smaller


def test_a_plan_beside_the_papers_row() -> None:
    from sorsa.planning.report import as_text

    config = load_config("llama2_sorsa_r128_code", "plan", {})
    text = as_text(planning.make_plan(config))
    assert "(paper: 320M)" in text and "gsm-8k 56.03, math 10.36, humaneval 24.39" in text
    other = planning.make_plan(dataclasses.replace(config, rank=64))
    assert other["paper"] is None and other["trainable_parameters"] < 161e6


def test_a_model_that_cannot_be_traced(
    monkeypatch: pytest.MonkeyPatch, tiny_config: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    from sorsa.planning.report import as_text

    def fail(*_: Any) -> None:
        raise RuntimeError("a value is needed")

    monkeypatch.setattr("sorsa.planning.memory.trace_step", fail)
    plan = planning.make_plan(tiny_config())
    assert plan["bytes"]["activations"] == {"without_checkpointing": None, "with_checkpointing": None}
    assert plan["fits"]["24"]["with_checkpointing"] is None
    assert "cannot be traced without its weights (a value is needed)" in caplog.text
    assert re.search(r"fits in 24 GB +\? +\?", as_text(plan))


@pytest.mark.parametrize("model", EMBEDDED)
def test_the_embedded_models_need_no_files(model: str) -> None:
    skeleton = build_skeleton(RunConfig(model=model))
    millions = {"meta": 6738, "mist": 7242, "goog": 8538, "RWKV": 7636, "Blin": 7636, "Hugg": 135}
    assert round(skeleton.num_parameters() / 1e6) == millions[model[:4]]
    assert all(tensor.is_meta for tensor in skeleton.parameters())


def test_an_unreachable_model_names_the_embedded_ones(capsys: pytest.CaptureFixture) -> None:
    words = "--name x --plan --json --model org/no-such-model --train-dataset metamath --split [:1000]"
    assert cli.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.search(
        r"error: model org/no-such-model: no such directory here.*--plan needs no files for meta-llama", err
    )


def test_a_directory_needs_no_weights(tiny_model: Path, tiny_config: Callable[..., Any], tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    plan = planning.make_plan(tiny_config(model=str(tmp_path / "model")))
    assert plan["trainable_parameters"] == planning.make_plan(tiny_config())["trainable_parameters"]


def test_a_broken_directory_is_not_about_embedded_models(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json in it; give the directory of a Hugging Face model$"):
        build_skeleton(RunConfig(model=str(tmp_path)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 17}, r"rank = 17: above the smaller side of model\.layers\.0\.self_attn\.k_proj \(16 x 32\)"),
        ({"target_modules": ["query"]}, r"target_modules = \['query'\]: matches no module"),
        ({"peft": "adalora", "t_init": 1, "t_final": 600}, r"t_init = 1, t_final = 600: .* below the 6 optimizer"),
    ],
)
def test_mistakes(tiny_config: Callable[..., Any], fields: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        planning.make_plan(tiny_config(**fields))


@pytest.mark.parametrize("method", ["sorsa", "adalora"])
def test_measured_steps(tiny_config: Callable[..., Any], capsys: pytest.CaptureFixture, method: str) -> None:
    config = tiny_config(peft=method, t_init=1, t_final=2)
    planning.plan(config, as_json=True, measure=True)
    plan = json.loads(capsys.readouterr().out)  # training's own lines are not there
    measured = plan["measured"]
    assert measured["steps"] == 5
    assert measured["hours"] == pytest.approx(measured["seconds_per_step"] * plan["optimizer_steps"] / 3600)
    assert measured["tokens_per_second"] > 0 and measured["peak_host_bytes"] > 1e8
    assert not Path(config.run_path).exists()


def test_measuring_a_model_that_is_not_there(tiny_config: Callable[..., Any], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UsageError, match=r"model HuggingFaceTB/SmolLM2-135M: no such directory here"):
        planning.plan(tiny_config(model="HuggingFaceTB/SmolLM2-135M", tokenizer=None), measure=True)
    assert capsys.readouterr().out == ""
