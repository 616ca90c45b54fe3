"""Perplexity: against a plain loop with transformers' own loss, its windows, its interval, its refusals."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa import demo
from sorsa.errors import UsageError
from sorsa.evaluation import perplexity, text_windows
from sorsa.evaluation import test as run_benchmark

TEXT = "".join(f"Line {n}: {n} hens lay {n * 3} eggs \u00e9\u4e2d.\n" for n in range(40))


@pytest.fixture
def config(tiny_config: Callable[..., Any], tiny_model: Path, tmp_path: Path) -> Callable[..., Any]:
    """A merged run of the tiny model and a text: `config(**fields)`."""
    file = tmp_path / "held.txt"
    file.write_text(TEXT, encoding="utf-8")

    def make(**fields: Any) -> Any:
        fields = {"test_dataset": "perplexity", "test_file": str(file), "test_precision": "fp32", "length": 64} | fields
        made = tiny_config(**fields)
        merged = Path(made.run_path) / made.name / "merged"
        if not merged.exists():
            shutil.copytree(tiny_model, merged)
        return made

    return make


def record(config: Any, name: str = "perplexity") -> dict[str, Any]:
    return json.loads((Path(config.run_path) / config.name / "results" / f"{name}.json").read_text())


def plain_loop(folder: Path, context: int, stride: int) -> tuple[float, int]:
    """The recipe of transformers' own documentation: labels of what was seen are -100, the loss is the model's."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(TEXT, add_special_tokens=False).input_ids]])
    total, count, seen = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + context, ids.shape[1])
        labels = ids[:, begin:end].clone()
        fresh = end - max(seen, 1)
        labels[:, : -fresh or None] = -100
        with torch.no_grad():
            total += float(model(ids[:, begin:end], labels=labels).loss) * fresh
        count, seen = count + fresh, end
        if end == ids.shape[1]:
            break
    return total / count, count


def test_equals_a_plain_loop(config: Callable[..., Any], tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_benchmark(config())
    found = record(config())
    expected, tokens = plain_loop(tiny_model, 64, 32)
    assert found["tokens"] == tokens == len(TEXT.encode())  # a byte-level tokenizer, every byte predicted
    assert found["nll_per_token"] == pytest.approx(expected, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(expected / math.log(2), rel=1e-5)
    assert found["bytes"] == len(TEXT.encode())
    low, high = found["interval_95"]
    assert low < found["perplexity"] < high
    run_benchmark(config(valid_batch_size=3))
    assert record(config())["nll_per_token"] == pytest.approx(found["nll_per_token"], rel=1e-6)
    run_benchmark(config(base=True))  # the same model: nothing is forgotten
    out = capsys.readouterr().out
    assert "base-perplexity: " in out
    assert "from base-perplexity to perplexity: times 1.0000 (95% interval 1.0000 to 1.0000)" in out


def test_rwkv6(config: Callable[..., Any]) -> None:
    """The shipped RWKV6 predicts its own kind of text far better than by chance; batches change nothing."""
    shipped = Path(demo.__file__).parent
    fields = {"base": True, "model": str(shipped / "model_rwkv6"), "test_file": str(shipped / "data/heldout.txt")}
    found = []
    for size in (1, 4):
        run_benchmark(config(**fields, limit=6, valid_batch_size=size))
        found.append(record(config(), "base-perplexity"))
    assert found[0]["nll_per_token"] == pytest.approx(found[1]["nll_per_token"], rel=1e-5)
    assert found[0]["perplexity"] < 20 and found[0]["windows"]["context"] == 64  # its vocabulary has 1024 entries


def test_limit_and_pieces(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    run_benchmark(config(limit=3))
    found = record(config())
    assert found["windows"] == {"context": 64, "stride": 32, "count": 3, "rule": perplexity.WINDOWING}
    assert found["tokens"] == 63 + 32 + 32 and found["bytes"] in range(127, 130)
    rows = list(perplexity.read_rows(Path(config().run_path) / "tiny/results/perplexity.jsonl"))
    assert [row["tokens"] for row in rows] == [63, 32, 32]
    assert found["nll_per_token"] == pytest.approx(sum(row["nll"] for row in rows) / 127)
    run_benchmark(config())
    whole = record(config())
    monkeypatch.setattr(text_windows, "PIECE", 100)  # bytes are tokens here, so that cuts change nothing
    run_benchmark(config())
    assert record(config())["nll_per_token"] == pytest.approx(whole["nll_per_token"], rel=1e-6)
    assert record(config())["bytes"] == whole["bytes"]


def test_windows_give_each_token_half_a_context() -> None:
    for length in (2, 5, 8, 9, 30, 31):
        for context in (2, 3, 8):
            predicted = []
            for ids, fresh in text_windows.windows(iter(range(length)), context, max(1, context // 2)):
                assert len(ids) <= context and ids == list(range(ids[0], ids[0] + len(ids)))
                assert ids[0] == 0 or len(ids) - fresh >= context - max(1, context // 2)
                predicted += ids[-fresh:]
            assert predicted == list(range(1, length))
    assert list(text_windows.windows(iter([7]), 4, 2)) == []


def test_standard_error_by_simulation() -> None:
    """Windows with different means and lengths: the spread of repeated estimates is what one file says of itself."""
    import numpy as np

    generator, means, errors = np.random.default_rng(0), [], []
    for _ in range(300):
        sums = perplexity.Sums()
        for tokens in generator.integers(10, 40, 50):
            sums.add(float(tokens * generator.normal(3, 0.5)), int(tokens))
        means.append(sums.mean)
        errors.append(sums.standard_error())
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)
    one = perplexity.Sums()
    one.add(4.0, 2)
    assert one.standard_error() is None and perplexity.scores(one, 8)["interval_95"] is None


def test_change_is_paired() -> None:
    before = [{"window": n, "tokens": 10, "nll": 10.0 * n} for n in range(1, 9)]
    after = [row | {"nll": row["nll"] + 1 + 0.01 * row["window"]} for row in before]
    found = perplexity.change(before, after)
    assert found["factor"] == pytest.approx(math.exp(0.1045))
    assert found["interval_95"][1] - found["interval_95"][0] < 0.01  # the windows themselves differ hundredfold
    assert perplexity.change(before, after[:-1]) is None


def test_a_diverged_model_is_one_line(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "window_nll", lambda model, batch: [math.nan] * len(batch))
    with pytest.raises(UsageError, match="likelihoods are no numbers: its training diverged, or it needs"):
        run_benchmark(config(base=True))


def test_a_very_bad_model(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity, "window_nll", lambda model, batch: [800.0 * fresh for _, fresh in batch])
    with pytest.raises(UsageError, match="likelihoods are no numbers: its training diverged"):
        run_benchmark(config(base=True))
    sums = perplexity.Sums()
    sums.add(10.0, 10)
    sums.add(9000.0, 10)
    found = perplexity.scores(sums, 20)
    assert found["perplexity"] < math.inf and found["interval_95"] == [0.0, math.exp(perplexity.HIGHEST)]


@pytest.mark.parametrize(
    ("record_text", "rows_text"),
    [
        ("[]", None),
        ("{", None),
        (None, '{"window": 0, "tokens": 63}\n'),
        (None, '{"tokens": 63, "nll": "x"}\n'),
        (None, ""),
    ],
)
def test_a_damaged_neighbour(
    config: Callable[..., Any], capsys: pytest.CaptureFixture[str], record_text: str | None, rows_text: str | None
) -> None:
    run_benchmark(config(base=True, limit=2))
    path = Path(config().run_path) / "tiny/results/base-perplexity.json"
    if record_text is not None:
        path.write_text(record_text)
    if rows_text is not None:
        path.with_suffix(".jsonl").write_text(rows_text)
    capsys.readouterr()
    run_benchmark(config(limit=2))
    out = capsys.readouterr().out
    assert "not compared with base-perplexity: " in out and "results: " in out
    assert record(config())["windows"]["count"] == 2


def test_a_long_text_is_no_reason_for_a_warning(config: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    import logging

    from transformers import AutoTokenizer

    from sorsa.data.tokenise import prompt_ids

    tokenizer = AutoTokenizer.from_pretrained(config().model)
    tokenizer.model_max_length = 8
    logger = logging.getLogger("transformers.tokenization_utils_base")
    logger.addHandler(caplog.handler)
    try:
        tokenizer(TEXT)
        assert "longer than the specified maximum" in caplog.text  # so that the silence below says something
        caplog.clear()
        tokenizer.deprecation_warnings.clear()
        prompt_ids(tokenizer, [TEXT])
        assert caplog.text == ""
    finally:
        logger.removeHandler(caplog.handler)


def test_one_process(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for dataset in ("perplexity", "lm-eval:piqa"):
        with pytest.raises(UsageError, match=rf"{dataset} is tested by one process, and 2 were started: run it witho"):
            run_benchmark(config(test_dataset=dataset, base=True))


@pytest.mark.parametrize(
    ("fields", "content", "message"),
    [
        ({"test_file": None}, b"", r"perplexity needs a text: --test-file FILE.txt"),
        (
            {"test_file": "held.jsonl"},
            b"{}",
            r"held.jsonl': perplexity reads plain text, the whole of one .txt file: --test-file FILE.txt .*tiny.yaml",
        ),
        ({"engine": "rwkv"}, b"x", r"perplexity with engine = rwkv: only the engine hf gives likelihoods"),
        ({}, b"ab\xff", r"held.txt is not UTF-8 text"),
        ({}, b"", r"held.txt holds no text to predict"),
        ({"test_file": "none.txt"}, b"", r"cannot read none.txt: No such file"),
    ],
)
def test_refusals(
    config: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict,
    content: bytes,
    message: str,
) -> None:
    made = config(**fields)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        run_benchmark(made)
    assert not (Path(made.run_path) / "tiny/results/perplexity.jsonl").exists()
