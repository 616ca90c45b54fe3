"""The vLLM engine against a stub with the signatures of vLLM 0.33.0, read from its wheel; no GPU is needed for it.

The stub answers with a fixed text, in the shape of vLLM's outputs: `RequestOutput.outputs[0]` with `token_ids` and
`finish_reason`.
"""

from __future__ import annotations

import importlib.machinery
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypedDict

import pytest
import torch

from sorsa.errors import UsageError
from sorsa.evaluation import test as run_benchmark
from sorsa.evaluation.vllm_engine import _tokens

# EngineArgs' fields that may be given to LLM beyond its own arguments: those that we use
ENGINE_ARGUMENTS = {"max_model_len", "max_num_seqs"}
CALLS: dict[str, Any] = {}


class TokensPrompt(TypedDict):
    prompt_token_ids: list[int]


class SamplingParams:
    def __init__(
        self,
        n: int = 1,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repetition_penalty: float = 1.0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        seed: int | None = None,
        stop: str | list[str] | None = None,
        stop_token_ids: list[int] | None = None,
        ignore_eos: bool = False,
        max_tokens: int | None = 16,
        detokenize: bool = True,
    ) -> None:
        self.temperature, self.max_tokens, self.stop_token_ids = temperature, max_tokens, stop_token_ids


class LLM:
    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        assert kwargs.keys() <= ENGINE_ARGUMENTS
        CALLS["model"] = locals()

    def generate(
        self,
        prompts: list[TokensPrompt],
        sampling_params: list[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
        lora_request: Any = None,
        priority: Any = None,
        tokenization_kwargs: Any = None,
        mm_processor_kwargs: Any = None,
    ) -> list[Any]:
        CALLS.setdefault("prompts", []).extend(prompt["prompt_token_ids"] for prompt in prompts)
        CALLS.setdefault("sampling", []).extend(sampling_params)
        assert len(prompts) == len(sampling_params)
        output = SimpleNamespace(token_ids=(70, 71, 1), finish_reason="stop")
        return [SimpleNamespace(outputs=[output]) for _ in prompts]


@pytest.fixture
def config(
    tiny_config: Callable[..., Any], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """A merged run with --engine vllm, the stub in place of vLLM, and a machine that seems to have two GPUs."""
    stub = ModuleType("vllm")
    stub.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    stub.LLM, stub.SamplingParams, stub.TokensPrompt = LLM, SamplingParams, TokensPrompt
    monkeypatch.setitem(sys.modules, "vllm", stub)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("sorsa.run_folder._host", dict)  # which would ask the GPUs for their names
    CALLS.clear()
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps({"question": "x" * n, "answer": "#### 1"}) + "\n" for n in (1, 400, 2)))

    def make(**fields: Any) -> Any:
        made = tiny_config(
            **({"test_dataset": "gsm-8k", "test_file": str(file), "engine": "vllm", "max_new_tokens": 300} | fields)
        )
        if not (Path(made.run_path) / made.name / "merged").exists():
            shutil.copytree(tiny_model, Path(made.run_path) / made.name / "merged")
        return made

    return make


def test_what_vllm_is_asked_and_what_comes_of_it(config: Callable[..., Any]) -> None:
    made = config(tensor_parallel=2, test_precision="fp16")
    run_benchmark(made)
    asked, folder = CALLS["model"], Path(made.run_path) / made.name
    assert asked["model"] == asked["tokenizer"] == str(folder / "merged")
    assert (asked["dtype"], asked["tensor_parallel_size"], asked["trust_remote_code"]) == ("float16", 2, False)
    assert asked["kwargs"] == {"max_model_len": 512, "max_num_seqs": 128}  # the model has 512 positions
    lengths = [len(prompt) for prompt in CALLS["prompts"]]
    assert lengths == sorted(lengths, reverse=True) and all(prompt[0] == 0 for prompt in CALLS["prompts"])
    assert [one.max_tokens for one in CALLS["sampling"]] == [min(300, max(1, 512 - length)) for length in lengths]
    assert all(one.temperature == 0 and one.stop_token_ids == [1] for one in CALLS["sampling"])
    record = json.loads((folder / "results" / "gsm-8k.json").read_text())
    assert (record["engine"], record["graded"], record["truncated"]) == ("vllm", 3, 0)
    rows = [json.loads(line) for line in (folder / "results" / "gsm-8k.jsonl").read_text().splitlines()]
    assert {(row["tokens"], row["ended"]) for row in rows} == {(3, "end token")}


def test_an_end_token_that_vllm_left_out_is_known() -> None:
    ends = frozenset({1, 5})
    assert _tokens(SimpleNamespace(token_ids=[7, 8], finish_reason="stop"), ends) == [7, 8, 1]
    assert _tokens(SimpleNamespace(token_ids=[7, 5], finish_reason="stop"), ends) == [7, 5]
    assert _tokens(SimpleNamespace(token_ids=[7, 8], finish_reason="length"), ends) == [7, 8]


def test_refusals(config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="tensor_parallel = 3: 2 CUDA devices here; give a smaller --tensor-parallel"):
        run_benchmark(config(tensor_parallel=3))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="engine = vllm in 2 processes: vLLM starts its own; start the test without"):
        run_benchmark(config())
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr("sorsa.evaluation.vllm_engine.is_rwkv6", lambda settings: True)
    with pytest.raises(UsageError, match="engine = vllm: it has no RWKV6; leave --engine out, or take --engine rwkv"):
        run_benchmark(config())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"the package vllm is not installed in .*pip install 'sorsa\[vllm\]'"):
        run_benchmark(config())
    assert not CALLS
