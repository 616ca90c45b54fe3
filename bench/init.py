"""Seconds of SVD initialisation, and its accuracy: exact against randomized, on every linear layer of a decoder.

    python bench/init.py --model DIR [--rank 64] [--repeats 3]

The authors' release calls `torch.linalg.svd` on every weight, as `exact` does. The two are timed in turn, matrix by
matrix, so that a machine that slows down slows both. The error is the largest relative error of a top-r singular value
against LAPACK in FP64, over all matrices.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm
from transformers import AutoModelForCausalLM

from sorsa.adapters.decomposition import Factors, decompose


def timed(weight: torch.Tensor, rank: int, method: str) -> tuple[float, Factors]:
    """Return seconds and factors of one decomposition."""
    start = time.perf_counter()
    factors = decompose(weight, rank, method)
    if weight.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, factors


def main() -> None:
    """Parse the command line, measure, print one line per method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face model directory")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).to(args.device)
    linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and not n.endswith("lm_head")}
    totals: dict[str, list[float]] = {"exact": [0.0] * args.repeats, "randomized": [0.0] * args.repeats}
    worst = dict.fromkeys(totals, 0.0)
    for linear in tqdm(linears.values(), unit="matrix"):
        reference = torch.linalg.svdvals(linear.weight.detach().double())[: args.rank]
        for repeat in range(args.repeats):
            for method, seconds in totals.items():
                elapsed, factors = timed(linear.weight, args.rank, method)
                seconds[repeat] += elapsed
                worst[method] = max(worst[method], ((factors.S - reference) / reference).abs().max().item())
    print(f"{len(linears)} matrices, rank {args.rank}, {args.device}, median of {args.repeats}")
    for method, seconds in totals.items():
        print(
            f"{method:10} {statistics.median(seconds):8.2f} s   largest relative error of a value {worst[method]:.1e}"
        )
    ratios = [r / e for r, e in zip(totals["randomized"], totals["exact"], strict=True)]
    print(f"randomized / exact {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
