"""Train a PEFT method with nothing but transformers and PEFT, and print the loss of each step as JSON.

    python bench/plain_peft.py --model DIR --rows FILE.jsonl --method pissa --rank 16 --steps 20 --lr 1e-3

Nothing of the package `sorsa` is imported: this is the peer that our runs of LoRA, PiSSA, OLoRA, DoRA, VeRA and AdaLoRA
are compared with. `python run.py` with the same seed, rows and settings must show the same losses.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from peft import AdaLoraConfig, LoraConfig, PeftConfig, VeraConfig, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments, set_seed

PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{query}\n\n### Response:"
)
LORA = {"lora": {}, "dora": {"use_dora": True}, "olora": {"init_lora_weights": "olora"},
        "pissa": {"init_lora_weights": "pissa"}}  # fmt: skip


def peft_config(args: argparse.Namespace) -> PeftConfig:
    """Return PEFT's configuration of the method, as its documentation shows it."""
    if args.method == "vera":
        return VeraConfig(r=args.rank, target_modules="all-linear", projection_prng_key=args.seed)
    if args.method == "adalora":
        return AdaLoraConfig(
            init_r=args.init_rank, target_r=args.rank, tinit=args.t_init, tfinal=args.t_final, total_step=args.steps,
            lora_alpha=args.init_rank, target_modules="all-linear", task_type="CAUSAL_LM",
        )  # fmt: skip
    return LoraConfig(
        r=args.rank, lora_alpha=args.rank, target_modules="all-linear", task_type="CAUSAL_LM", **LORA[args.method]
    )


def samples(args: argparse.Namespace, tokenizer: Any) -> list[dict[str, torch.Tensor]]:
    """Return the first `steps x batch` rows as token ids, with labels on the response only."""
    rows = []
    with open(args.rows, encoding="utf-8") as lines:
        for line in list(lines)[: args.steps * args.batch_size]:
            row = json.loads(line)
            prompt = tokenizer((tokenizer.bos_token or "") + PROMPT.format(**row), add_special_tokens=False)[
                "input_ids"
            ]
            answer = tokenizer(row["response"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
            ids = torch.tensor(prompt + answer)
            rows.append({"input_ids": ids, "labels": torch.tensor([-100] * len(prompt) + answer)})
    return rows


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Pad on the right; padding is not attended to and has no loss."""
    mask = [torch.ones_like(row["input_ids"]) for row in rows]
    return {
        "input_ids": pad_sequence([row["input_ids"] for row in rows], batch_first=True),
        "labels": pad_sequence([row["labels"] for row in rows], batch_first=True, padding_value=-100),
        "attention_mask": pad_sequence(mask, batch_first=True),
    }


class Allocate(TrainerCallback):
    """Calls AdaLoRA's update after each optimizer step, as PEFT's documentation asks."""

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any, **kwargs: Any) -> None:
        """Update the importance scores and the ranks."""
        model.base_model.update_and_allocate(state.global_step + 1)


def main() -> None:
    """Train and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True, help=".jsonl with query and response")
    parser.add_argument("--method", required=True, choices=[*LORA, "vera", "adalora"])
    for flag, default in {"rank": 16, "init-rank": 16, "t-init": 0, "t-final": 0, "seed": 42, "steps": 20}.items():
        parser.add_argument(f"--{flag}", type=int, default=default)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32), peft_config(args))
    arguments = TrainingArguments(
        output_dir="unused", save_strategy="no", report_to="none", use_cpu=True, logging_steps=1, seed=args.seed,
        per_device_train_batch_size=args.batch_size, max_steps=args.steps, learning_rate=args.lr, warmup_steps=0.03,
        lr_scheduler_type="cosine", weight_decay=0.0, max_grad_norm=1.0, remove_unused_columns=False, disable_tqdm=True,
    )  # fmt: skip
    callbacks = [Allocate()] if args.method == "adalora" else []
    trainer = Trainer(model, arguments, collate, samples(args, tokenizer), callbacks=callbacks)
    trainer.train()
    print(json.dumps([row["loss"] for row in trainer.state.log_history if "loss" in row]))


if __name__ == "__main__":
    main()
