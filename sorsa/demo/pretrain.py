"""Pre-training of the demo's base model: a Llama of 3.4 M parameters on the text of corpus.py, on the CPU."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sorsa.demo.corpus import FIRST_PHASE, SECOND_PHASE, documents, vocabulary_text
from sorsa.demo.tokenizer import CONTEXT, VOCABULARY, train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

TOKENIZER_DOCUMENTS = 4000  # the merges no longer change much beyond
HELD_OUT_CHARACTERS = 120_000  # text never trained on, to measure what fine-tuning makes the model forget
DOCUMENT_MARK = "\n%%\n"  # between the documents of the held-out text; documents have blank lines of their own
LOG_EVERY = 50  # steps


@dataclass(frozen=True)
class Recipe:
    """Settings of pre-training; the shipped weights were made with the defaults.

    Attributes:
        seed: Seed of weights and text.
        first_steps: Steps on FIRST_PHASE.
        second_steps: Steps on SECOND_PHASE.
        rows: Packed rows per step.
        row_tokens: Tokens per row; a multi-step row of fine-tuning has up to 250.
        lr: Peak learning rate, for Muon (scaled to AdamW's update size) and AdamW alike.
        warmup: Share of the steps with rising learning rate.
        weight_decay: Decoupled weight decay on matrices.
    """

    seed: int = 1
    first_steps: int = 600
    second_steps: int = 400
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


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Return the untrained model in FP32.

    Args:
        tokenizer: Gives the ids of the special tokens.
        seed: Seed of the weights.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,  # 384 is three times slower on a CPU, 192 no faster
        intermediate_size=704,  # 8/3 of the hidden size, a multiple of 64, as Llama has it
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


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


def build_optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices inside the layers and AdamW for embeddings and norms."""
    import torch

    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=recipe.lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def lr_factor(step: int, recipe: Recipe) -> float:
    """Return the learning rate at `step` (from 0) over its peak: linear warm-up, then cosine to 2%."""
    total = recipe.first_steps + recipe.second_steps
    rise = max(1, round(recipe.warmup * total))
    if step < rise:
        return (step + 1) / rise
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - rise) / (total - rise)))


def pretrain(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> None:
    """Train `model` in place through both phases.

    Args:
        model: The untrained model, FP32; computation is in BF16 autocast.
        tokenizer: Its tokenizer.
        recipe: The settings.
    """
    import torch

    optimizers = build_optimizers(model, recipe)
    first = packed(tokenizer, documents(FIRST_PHASE, recipe.seed), recipe)
    second = packed(tokenizer, documents(SECOND_PHASE, recipe.seed + 1), recipe)
    batches = itertools.chain(
        itertools.islice(first, recipe.first_steps), itertools.islice(second, recipe.second_steps)
    )
    model.train()
    start = time.monotonic()
    for step, batch in enumerate(batches):
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
    model.eval()


def save_base(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, target: Path) -> None:
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
