"""A tiny training run from the settings to the adapter: numbers, record, interruption, full disk."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from sorsa.errors import Diverged, UsageError
from sorsa.models import load_base_model, load_tokenizer
from sorsa.run_folder import RunFolder, read_metrics
from sorsa.training import run, train
from sorsa.training.checkpoints import is_complete

PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{query}\n\n### Response:"
)  # written out here so that a change of the template cannot go unnoticed


def _folder(config) -> RunFolder:
    return RunFolder(config.run_path, config.name)


def _adapter(config) -> dict[str, torch.Tensor]:
    name = "trained_weights.safetensors" if config.peft == "full" else "adapter_model.safetensors"
    return load_file(_folder(config).adapter / name)


def _assert_same_adapter(left, right, tolerance=1e-6):
    a, b = _adapter(left), _adapter(right)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance, msg=name)


class _At(TrainerCallback):
    """Calls `action` once, in the middle of optimizer step `step`."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step + 1 == self.step:
            self.action()


@pytest.fixture
def during(monkeypatch):
    """A function `(step, action)` that has `action` called in the middle of that step of the next training."""
    original = run._callbacks

    def arrange(step, action):
        monkeypatch.setattr(run, "_callbacks", lambda *a: [*original(*a), _At(step, action)])

    def undo():
        monkeypatch.setattr(run, "_callbacks", original)

    arrange.undo = undo
    return arrange


@pytest.fixture(scope="module")
def undisturbed(make_config, tmp_path_factory):
    """The settings of a finished SORSA run of 6 steps with dropout, whose random state a resumption must restore."""
    config = make_config(tmp_path_factory.mktemp("undisturbed"), dropout=0.1)
    train(config)
    return config


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


def test_splitting_the_batch_changes_nothing(tiny_config):
    settings = {"gamma": 0.0, "max_steps": 3}
    whole = tiny_config(name="whole", batch_size=4, accum_steps=1, **settings)
    split = tiny_config(name="split", batch_size=1, accum_steps=4, **settings)
    train(whole)
    train(split)
    losses = [[row["loss"] for row in read_metrics(_folder(c).metrics)] for c in (whole, split)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    _assert_same_adapter(whole, split, tolerance=1e-4)


def test_gradient_checkpointing_changes_nothing(tiny_config):
    plain, saving = tiny_config(name="plain"), tiny_config(name="saving", gradient_checkpointing=True)
    train(plain)
    train(saving)
    _assert_same_adapter(plain, saving)


@pytest.mark.parametrize("method", ["sorsa", "lora"])
def test_training_learns(tiny_config, method):
    config = tiny_config(peft=method, lr=3e-2, epochs=6, warmup=0.1, rank=8, mix_precision=["bf16", "tf32"])
    train(config)
    losses = [row["loss"] for row in read_metrics(_folder(config).metrics)]
    assert len(losses) == 36 and losses[-1] < 0.8 * losses[0]
    assert ("regularizer" in read_metrics(_folder(config).metrics)[0]) == (method == "sorsa")


def test_interrupted_and_resumed_is_undisturbed(undisturbed, tiny_config, during, caplog):
    config = tiny_config(dropout=0.1)
    during(3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(config)
    folder = _folder(config)
    assert f"stopped after step 3 of 6, which is saved in {folder.checkpoints}" in caplog.text
    assert folder.read_record()["status"] == "interrupted" and not folder.adapter.exists()
    assert is_complete(folder.checkpoints / "checkpoint-3")
    with folder.metrics.open("a") as stream:  # steps a killed process did after its last checkpoint
        stream.write('{"step": 4, "loss": 99.0, "tokens": 0}\n{"step": 5, "lo')
    during.undo()
    train(config)
    _assert_same_adapter(config, undisturbed)
    rows, expected = read_metrics(folder.metrics), read_metrics(_folder(undisturbed).metrics)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for key in ("loss", "learning_rate", "tokens", "orthonormality_error"):
        assert [row[key] for row in rows] == pytest.approx([row[key] for row in expected], rel=1e-5, abs=1e-7)
    assert folder.read_record()["status"] == "finished"


def test_stopped_at_once_keeps_the_last_checkpoint(tiny_config, during):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    during(4, twice)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_config())
    folder = _folder(tiny_config())
    assert [p.name for p in folder.checkpoints.iterdir() if is_complete(p)] == ["checkpoint-2"]
    assert folder.read_record()["status"] == "interrupted"


def test_full_disk_in_a_checkpoint(undisturbed, tiny_config, during):
    """A real write failure half-way through checkpoint-4: the kernel refuses files above the optimizer's size."""
    config = tiny_config(dropout=0.1)
    folder = _folder(config)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk():
        size = (folder.checkpoints / "checkpoint-2" / "optimizer.pt").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, before[1]))

    during(4, fill_disk)
    message = (
        r"could not save at step 4, is the disk full\? \(.+\): the last checkpoint, .*checkpoint-2, is complete, "
        r"nothing half-written is "
        r"left; free some disk space, then give the same command again: it resumes"
    )
    try:
        with pytest.raises(UsageError, match=message) as caught:
            train(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert [p.name for p in folder.checkpoints.iterdir()] == ["checkpoint-2"]
    during.undo()
    train(config)
    _assert_same_adapter(config, undisturbed)


@pytest.mark.parametrize("method", ["sorsa", "pissa", "full"])
def test_full_disk_in_the_adapter(tiny_config, monkeypatch, method):
    """All steps done, only the adapter not saved: the same command saves it without another step."""
    plain, config = (tiny_config(name=name, max_steps=4, peft=method) for name in ("plain", "tiny"))
    train(plain)
    original = run._save

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(run, "_save", full)
    with pytest.raises(UsageError, match=r"could not save at step 4, .*No space left.*checkpoint-4, is complete"):
        train(config)
    monkeypatch.setattr(run, "_save", original)
    train(config)
    _assert_same_adapter(config, plain, tolerance=0)
    assert [row["step"] for row in read_metrics(_folder(config).metrics)] == [1, 2, 3, 4]
    assert _folder(config).read_record()["status"] == "finished"


def test_full_gpu(tiny_config, during):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    during(2, full)
    with pytest.raises(UsageError, match=r"the GPU's memory is full at step 2: halve --batch-size and double --accum"):
        train(tiny_config())


def test_a_diverged_run_says_so_in_its_record(tiny_config, during):
    def diverge():
        raise Diverged("the loss is nan at step 2")

    during(2, diverge)
    with pytest.raises(Diverged, match="the loss is nan at step 2"):
        train(tiny_config())
    assert _folder(tiny_config()).read_record()["status"] == "diverged"


def test_defects_keep_their_traceback(tiny_config, during):
    def defect():
        raise RuntimeError("a defect")

    during(2, defect)
    with pytest.raises(RuntimeError, match="a defect"):
        train(tiny_config())


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
