"""The penalties of the authors' RWKV6 tests: the definition, written once more with a dictionary, and the runtime's."""

from __future__ import annotations

import pytest
import torch

from sorsa.evaluation.penalties import RuntimePenalties

VOCABULARY = ["<end>", "a", "b", "1", " ", "12", "c1", "\t", "90"]


class Words:
    """Enough of a tokenizer."""

    def decode(self, ids: list[int]) -> str:
        return "".join(VOCABULARY[token] for token in ids)


def by_definition(generated: list[int], logits: torch.Tensor) -> torch.Tensor:
    """Return one row of logits after the penalties for the tokens generated so far."""
    counts: dict[int, float] = {}
    for token in generated:
        counts = {other: 0.996 * count for other, count in counts.items()}
        counts[token] = counts.get(token, 0.0) + (VOCABULARY[token] not in " \t0123456789")
    logits = logits.clone()
    for token, count in counts.items():
        logits[token] -= 0.2 + 0.2 * count
    return logits


def test_each_step_of_a_batch_is_the_definition() -> None:
    torch.manual_seed(0)
    rows = torch.randint(len(VOCABULARY), (3, 30))
    penalties, prompt = RuntimePenalties(Words()), torch.tensor([[1, 2], [3, 4], [1, 1]])
    for step in range(30):
        logits = torch.randn(3, len(VOCABULARY))
        found = penalties(torch.cat([prompt, rows[:, :step]], dim=1), logits)
        for row in range(3):
            torch.testing.assert_close(found[row], by_definition(rows[row, :step].tolist(), logits[row]))


def test_the_prompt_is_not_penalised_and_a_digit_only_once() -> None:
    penalties, zeros = RuntimePenalties(Words()), torch.zeros(1, len(VOCABULARY))
    assert torch.equal(penalties(torch.tensor([[1, 2]]), zeros), zeros)
    for token in (3, 1, 3, 1):
        found = penalties(torch.tensor([[token]]), zeros)
    assert found[0, 3] == pytest.approx(-0.2)
    assert found[0, 1] == pytest.approx(-0.2 - 0.2 * (1 + 0.996**2))
    assert found[0, 2] == 0


def test_the_runtimes_pipeline_writes_the_same_text() -> None:
    utils = pytest.importorskip("rwkv.utils", reason="the reference runtime: pip install rwkv==0.8.32")
    torch.manual_seed(1)
    table = torch.randn(len(VOCABULARY), len(VOCABULARY))  # logits of the next token by the last one
    table[:, 0] = -9.0

    class Model:
        def forward(self, tokens: list[int], state: None) -> tuple[torch.Tensor, None]:
            return table[tokens[-1]].clone(), None

    pipeline = utils.PIPELINE.__new__(utils.PIPELINE)
    pipeline.model, pipeline.tokenizer = Model(), Words()
    pipeline.tokenizer.encode = lambda text: [1]
    expected = pipeline.generate("a", 60, utils.PIPELINE_ARGS(temperature=0, top_p=1.0, token_stop=[0]))
    penalties, new = RuntimePenalties(Words()), [1]
    for _ in range(60):
        new.append(int(penalties(torch.tensor([new]), table[new[-1]][None]).argmax()))
    assert Words().decode(new[1:]) == expected
    plain = [1]
    for _ in range(60):
        plain.append(int(table[plain[-1]].argmax()))
    assert Words().decode(plain[1:]) != expected
