"""Time and memory of one training step: frozen base, PEFT's LoRA and PiSSA, the authors' layer, ours; side by side.

    pip download --no-deps -d bench/wheels sorsa==1.0.1        # the authors' release, for this comparison only
    python bench/step.py --model DIR [--authors bench/wheels/sorsa-1.0.1-py3-none-any.whl]

One process holds every variant of the model and steps them in turn (A B C A B C ...), so that a machine that slows down
slows all of them; medians and ratios are what to read. BF16 autocast, AdamW, all linear layers of the decoder. Peak
memory is measured apart, one child process per variant.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM

from sorsa import SorsaConfig, add_regularizer_gradient, gradient_weight

LR, GAMMA = 3e-5, 4e-4  # the paper's SORSA runs


def load_authors_layer(wheel: Path) -> ModuleType:
    """Import `layer.py` of the authors' wheel under another name: their package is called `sorsa` as well."""
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read("sorsa/layer.py").decode()
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("authors_layer", loader=None))
    exec(compile(source, "authors_layer.py", "exec"), module.__dict__)
    return module


def with_authors_layers(model: nn.Module, rank: int, wheel: Path) -> nn.Module:
    """Replace all decoder linears by the authors' layer, set up as their training script does (residual in BF16)."""
    authors = load_authors_layer(wheel)
    model.requires_grad_(False)
    for name, linear in list(model.named_modules()):
        if isinstance(linear, nn.Linear) and not name.endswith("lm_head"):
            layer = authors.Linear(linear.in_features, linear.out_features, r=rank, bias=linear.bias is not None)
            layer.weight.data = linear.weight.data
            layer.sorsa_init(weight_dtype=torch.bfloat16, adapter_dtype=torch.float32)
            model.set_submodule(name, layer)
    return model


def frozen_base(model: nn.Module) -> nn.Module:
    """Freeze everything; forward and backward reach the input embeddings' output, the least any adapter must do."""
    model.requires_grad_(False)
    model.enable_input_require_grads()
    return model


def builders(rank: int, authors: Path | None) -> dict[str, Callable[[nn.Module], nn.Module]]:
    """Name to function that turns a freshly loaded base model into the variant to measure."""
    lora = {"r": rank, "lora_alpha": rank, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    variants: dict[str, Callable[[nn.Module], nn.Module]] = {
        "base": frozen_base,
        "lora": lambda m: get_peft_model(m, LoraConfig(**lora)),
        "pissa": lambda m: get_peft_model(m, LoraConfig(**lora, init_lora_weights="pissa_niter_4")),
        "sorsa": lambda m: get_peft_model(m, SorsaConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM")),
    }
    if authors is not None:
        variants["authors"] = lambda m: with_authors_layers(m, rank, authors)
    return variants


class Stepper:
    """One variant with its optimizer; `step` is one full training step."""

    def __init__(self, model: nn.Module, name: str) -> None:
        self.model, self.name = model.train(), name
        trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, lr=LR, weight_decay=0.0) if trainable else None

    def step(self, tokens: torch.Tensor) -> float:
        """Run forward, backward, regularizer (ours only) and optimizer; return seconds."""
        start = time.perf_counter()
        with torch.autocast(tokens.device.type, torch.bfloat16):
            loss = self.model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        if self.name == "sorsa":
            add_regularizer_gradient(self.model, gradient_weight(GAMMA, LR, "as_run"))
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad()
        if tokens.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start


def build(name: str, args: argparse.Namespace) -> Stepper:
    """Load the base in FP32, as the paper does, and turn it into the named variant."""
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(args.device)
    return Stepper(builders(args.rank, args.authors)[name](model), name)


def random_tokens(args: argparse.Namespace, vocabulary: int) -> torch.Tensor:
    """Return random token ids of shape (batch, length): their values do not change the work."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(vocabulary, (args.batch, args.length), generator=generator).to(args.device)


def peak_host_memory() -> int:
    """Return this program's peak memory in bytes; getrusage's figure would begin with the parent process's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def peak_memory(name: str, argv: list[str]) -> float:
    """Return the peak memory in GB of three steps of one variant, in a process of its own."""
    output = subprocess.run(
        [sys.executable, __file__, *argv, "--only", name], check=True, capture_output=True, text=True
    )
    return json.loads(output.stdout.splitlines()[-1])["peak_gb"]


def main() -> None:
    """Parse the command line, measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face model directory")
    parser.add_argument("--authors", type=Path, help="the authors' wheel, sorsa-1.0.1-py3-none-any.whl")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=9, help="measured steps per variant, after 2 warm-up steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        stepper = build(args.only, args)
        for _ in range(3):
            stepper.step(random_tokens(args, stepper.model.config.vocab_size))
        peak = torch.cuda.max_memory_allocated() if args.device.startswith("cuda") else peak_host_memory()
        print(json.dumps({"peak_gb": peak / 1e9}))
        return
    steppers = [build(name, args) for name in builders(args.rank, args.authors)]
    tokens = random_tokens(args, steppers[0].model.config.vocab_size)
    seconds: dict[str, list[float]] = {stepper.name: [] for stepper in steppers}
    for round_ in range(args.steps + 2):
        for stepper in steppers:
            elapsed = stepper.step(tokens)
            if round_ >= 2:
                seconds[stepper.name].append(elapsed)
    report_times(seconds)
    for name in seconds:
        print(f"{name:8} peak memory {peak_memory(name, sys.argv[1:]):.2f} GB", flush=True)


def report_times(seconds: dict[str, list[float]]) -> None:
    """Print medians, and the ratio of `sorsa` to every variant: the median of the ratios round by round."""
    print(f"{'variant':8} {'median s':>9} {'min s':>7} {'max s':>7} {'sorsa/it':>9}")
    for name, values in seconds.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(seconds["sorsa"], values, strict=True))
        times = f"{statistics.median(values):9.3f} {min(values):7.3f} {max(values):7.3f}"
        print(f"{name:8} {times} {ratio:9.2f}", flush=True)


if __name__ == "__main__":
    main()
