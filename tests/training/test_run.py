"""A tiny training run from the settings to the adapter: numbers, record, bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from sorsa.errors import UsageError
from sorsa.models import load_base_model, load_tokenizer
from sorsa.run_folder import RunFolder, read_metrics
from sorsa.training import run, train

PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{query}\n\n### Response:"
)  # written out here so that a change of the template cannot go unnoticed


def _folder(config) -> RunFolder:
    return RunFolder(config.run_path, config.name)


def test_folder_and_record(undisturbed):
    folder = _folder(undisturbed)
    assert sorted(p.name for p in folder.path.iterdir()) == [
        "adapter", "checkpoints", "config.yaml", "metrics.jsonl", "record.json"
    ]  # fmt: skip
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {
        p.name for p in folder.adapter.iterdir()
    }
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["checkpoint-4", "checkpoint-6"]
    record, metrics = folder.read_record(), read_metrics(folder.metrics)
    assert record["status"] == "finished"
    assert (record["steps"], record["steps_done"], record["global_batch"], record["seed"]) == (6, 6, 4, 42)
    assert (record["samples"]["rows"], record["samples"]["kept"]) == (25, 25)
    assert (record["first_loss"], record["last_loss"]) == (metrics[0]["loss"], metrics[-1]["loss"])
    # r (m + n + 1) per matrix: q, o 32x32, k, v 16x32, gate, up 48x32, down 32x48; 2 layers, r = 4
    assert record["trainable_parameters"] == 2 * 4 * (2 * 65 + 2 * 49 + 3 * 81)
    assert record["seconds"] > 0 and record["peak_host_bytes"] > 2**27
    assert record["config"]["lr"] == undisturbed.lr and record["versions"]["torch"] == torch.__version__
    assert "git" in record and record["model"]["source"] == undisturbed.model


def test_metrics_have_one_row_per_step_and_the_cosine(undisturbed):
    rows = read_metrics(_folder(undisturbed).metrics)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    keys = {"step", "loss", "grad_norm", "learning_rate", "regularizer", "orthonormality_error", "tokens",
            "tokens_per_second"}  # fmt: skip
    assert all(set(row) == keys for row in rows)
    # 3% of 6 steps, rounded up: one step of warm-up from 0, then half a cosine over the other five
    cosine = [1e-3 * (1 + math.cos(math.pi * k / 5)) / 2 for k in range(5)]
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.0, *cosine])
    assert rows[0]["orthonormality_error"] < 1e-5  # singular vectors are orthonormal before the first step


def test_tokens_are_counted_without_padding(undisturbed):
    rows = read_metrics(_folder(undisturbed).metrics)
    tokenizer = load_tokenizer(undisturbed)
    lines = [json.loads(line) for line in Path(undisturbed.train_dataset).read_text().splitlines()]
    texts = ["<s>" + PROMPT.format(query=line["query"]) + line["response"] + "</s>" for line in lines[:24]]
    assert rows[-1]["tokens"] == sum(len(tokenizer(text)["input_ids"]) for text in texts)


def test_loss_is_the_mean_over_response_tokens_of_the_base_model(tiny_config, tmp_path):
    """The first step's loss, recomputed from the paper's template without any of our data code."""
    lines = Path(tiny_config().train_dataset).read_text().splitlines()[:4]
    data = tmp_path / "four.jsonl"
    data.write_text("\n".join(lines) + "\n")
    config = tiny_config(train_dataset=str(data))
    train(config)
    model, tokenizer = load_base_model(config, torch.float32), load_tokenizer(config)
    total = count = 0
    for line in map(json.loads, lines):
        prompt = tokenizer("<s>" + PROMPT.format(query=line["query"]))["input_ids"]
        response = tokenizer(line["response"] + "</s>")["input_ids"]
        ids = torch.tensor([prompt + response], device=model.device)
        logits = model(ids).logits[0, len(prompt) - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum").item()
        count += len(response)
    assert read_metrics(_folder(config).metrics)[0]["loss"] == pytest.approx(total / count, rel=1e-5)


def test_splitting_the_batch_changes_nothing(tiny_config, assert_same_adapter):
    settings = {"gamma": 0.0, "max_steps": 3}
    whole = tiny_config(name="whole", batch_size=4, accum_steps=1, **settings)
    split = tiny_config(name="split", batch_size=1, accum_steps=4, **settings)
    train(whole)
    train(split)
    losses = [[row["loss"] for row in read_metrics(_folder(c).metrics)] for c in (whole, split)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert_same_adapter(whole, split, tolerance=1e-4)


def test_gradient_checkpointing_changes_nothing(tiny_config, assert_same_adapter):
    plain, saving = tiny_config(name="plain"), tiny_config(name="saving", gradient_checkpointing=True)
    train(plain)
    train(saving)
    assert_same_adapter(plain, saving)


@pytest.mark.parametrize("method", ["sorsa", "lora"])
def test_training_learns(tiny_config, method):
    config = tiny_config(peft=method, lr=3e-2, epochs=6, warmup=0.1, rank=8, mix_precision=["bf16", "tf32"])
    train(config)
    losses = [row["loss"] for row in read_metrics(_folder(config).metrics)]
    assert len(losses) == 36 and losses[-1] < 0.8 * losses[0]
    assert ("regularizer" in read_metrics(_folder(config).metrics)[0]) == (method == "sorsa")


def test_bad_input_leaves_no_folder_and_an_old_run_alone(undisturbed, tiny_config):
    with pytest.raises(UsageError, match="rank = 500"):
        train(tiny_config(rank=500))
    assert not _folder(tiny_config()).path.exists()
    before = sorted(_folder(undisturbed).path.rglob("*"))
    with pytest.raises(UsageError, match="is already trained"):
        train(undisturbed)
    import dataclasses

    with pytest.raises(UsageError, match="rank = 500"):
        train(dataclasses.replace(undisturbed, rank=500, overwrite=True))
    assert sorted(_folder(undisturbed).path.rglob("*")) == before


def test_a_wrong_rank_is_found_before_the_data_is_read(tiny_config, monkeypatch):
    monkeypatch.setattr(run, "load_training_set", lambda *args: pytest.fail("the data was read first"))
    monkeypatch.setattr(run, "load_base_model", lambda *args: pytest.fail("the weights were loaded first"))
    with pytest.raises(UsageError, match="rank = 17: above the smaller side"):
        train(tiny_config(rank=17))


def test_finished_run_is_replaced_with_overwrite(tiny_config, capsys):
    config = tiny_config(max_steps=1)
    train(config)
    train(tiny_config(max_steps=2, overwrite=True))
    assert len(read_metrics(_folder(config).metrics)) == 2
    out = capsys.readouterr().out.splitlines()  # one line per run: the steps are in metrics.jsonl
    assert len(out) == 2 and out[1].startswith("trained tiny: 2 steps in") and out[1].endswith("--merge")
