"""Pre-training of the demo's base models (architectures.py) on the text of corpus.py, on the CPU."""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sorsa.demo.corpus import FIRST_PHASE, RECALL_PHASE, SECOND_PHASE, documents, vocabulary_text
from sorsa.demo.tokenizer import train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

TOKENIZER_DOCUMENTS = 4000  # the merges no longer change much beyond
HELD_OUT_CHARACTERS = 120_000  # text never trained on, to measure what fine-tuning makes the model forget
DOCUMENT_MARK = "\n%%\n"  # between the documents of the held-out text; documents have blank lines of their own
LOG_EVERY = 50  # steps


@dataclass(frozen=True)
class Recipe:
    """Settings of pre-training; the shipped Llama was made with the defaults.

    Attributes:
        seed: Seed of weights and text.
        first_steps: Steps on FIRST_PHASE.
        second_steps: Steps on SECOND_PHASE.
        recall_steps: Steps on RECALL_PHASE.
        rows: Packed rows per step.
        row_tokens: Tokens per row; a multi-step row of fine-tuning has up to 250.
        lr: Peak learning rate, for Muon (scaled to AdamW's update size) and AdamW alike.
        warmup: Share of the steps with rising learning rate.
        weight_decay: Decoupled weight decay on matrices.
    """

    seed: int = 1
    first_steps: int = 600
    second_steps: int = 400
    recall_steps: int = 0
    rows: int = 20
    row_tokens: int = 256
    lr: float = 4e-3
    warmup: float = 0.03
    weight_decay: float = 0.01


def build_tokenizer(problem_texts: list[str], seed: int) -> PreTrainedTokenizerFast:
    """Train the tokenizer on pre-training text and the training rows of fine-tuning (never on test rows).

    Args:
        problem_texts: Prompts and responses of the training split.
        seed: Seed of the pre-training text.
    """
    half = TOKENIZER_DOCUMENTS // 2
    first = itertools.islice(documents(FIRST_PHASE, seed), half)
    second = itertools.islice(documents(SECOND_PHASE, seed + 1), half)
    return train_tokenizer([vocabulary_text(), *first, *second, *problem_texts])


def packed(tokenizer: PreTrainedTokenizerFast, texts: Iterator[str], recipe: Recipe) -> Iterator[torch.Tensor]:
    """Yield batches (rows, row_tokens) of documents joined end to end, each between BOS and EOS."""
    import torch

    size = recipe.rows * recipe.row_tokens
    buffer: list[int] = []
    while True:
        while len(buffer) < size:
            buffer += [*tokenizer(next(texts))["input_ids"], tokenizer.eos_token_id]
        yield torch.tensor(buffer[:size]).view(recipe.rows, recipe.row_tokens)
        buffer = buffer[size:]


def build_optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the linear layers but the head, and AdamW for embeddings, norms and RWKV6's raw parameters."""
    import torch

    head = model.get_output_embeddings()
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    matrices = [linear.weight for linear in linears]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=recipe.lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def lr_factor(step: int, recipe: Recipe) -> float:
    """Return the learning rate at `step` (from 0) over its peak: linear warm-up, then cosine to 2%."""
    total = recipe.first_steps + recipe.second_steps + recipe.recall_steps
    rise = max(1, round(recipe.warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - rise) / (total - rise)))


def pretrain(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, checkpoint: Path | None = None
) -> None:
    """Train `model` in place through its phases.

    Args:
        model: The untrained model, FP32; computation is in BF16 autocast.
        tokenizer: Its tokenizer.
        recipe: The settings.
        checkpoint: A file to write from time to time, and to go on from where it exists already.
    """
    import torch

    optimizers = build_optimizers(model, recipe)
    done = 0 if checkpoint is None else load_checkpoint(checkpoint, model, optimizers)
    model.train()
    start = time.monotonic()
    for step, batch in enumerate(batches(tokenizer, recipe, done), start=done):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * lr_factor(step, recipe)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if (step + 1) % LOG_EVERY == 0:
            logger.info("step %d loss %.3f, %.0f s", step + 1, loss.item(), time.monotonic() - start)
            if checkpoint is not None:
                save_checkpoint(checkpoint, model, optimizers, step + 1)
    model.eval()


def batches(tokenizer: PreTrainedTokenizerFast, recipe: Recipe, done: int) -> Iterator[torch.Tensor]:
    """Yield the batches of all phases, without the first `done` ones."""
    phases = (
        (FIRST_PHASE, recipe.first_steps),
        (SECOND_PHASE, recipe.second_steps),
        (RECALL_PHASE, recipe.recall_steps),
    )
    streams = (
        itertools.islice(packed(tokenizer, documents(mixture, recipe.seed + index), recipe), steps)
        for index, (mixture, steps) in enumerate(phases)
    )
    return itertools.islice(itertools.chain.from_iterable(streams), done, None)


def save_checkpoint(path: Path, model: PreTrainedModel, optimizers: list[torch.optim.Optimizer], done: int) -> None:
    """Write what `load_checkpoint` needs to go on after `done` steps, whole or not at all."""
    import torch

    state = {"done": done, "model": model.state_dict(), "optimizers": [each.state_dict() for each in optimizers]}
    temporary = path.with_name(path.name + ".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path, model: PreTrainedModel, optimizers: list[torch.optim.Optimizer]) -> int:
    """Fill model and optimizers from a file of `save_checkpoint`; return its number of steps, 0 without a file."""
    import torch

    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, values in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(values)
    logger.info("%s: %d steps are done", path, state["done"])
    return state["done"]


def save_base(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, target: Path) -> None:
    """Write an ordinary Hugging Face directory with BF16 weights and a greedy generation config."""
    import torch
    from transformers import GenerationConfig

    model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def held_out_text(seed: int) -> str:
    """Return text of the second phase's kind under another seed, documents separated by DOCUMENT_MARK.

    Args:
        seed: Must differ from the seeds of pre-training.
    """
    parts: list[str] = []
    size = 0
    for document in documents(SECOND_PHASE, seed):
        size += len(document) + len(DOCUMENT_MARK)
        if size > HELD_OUT_CHARACTERS:
            return DOCUMENT_MARK.join(parts) + "\n"
        parts.append(document)
    raise AssertionError("documents() never ends")
