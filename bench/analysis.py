"""`--analyze`: the time of one large matrix, what the paper's Figure 1 would take, and agreement with plain NumPy.

    python bench/analysis.py --size 4096 --steps 2 --precision fp64

The matrix has a spectrum that falls as a language model's does; at each step a change of rank 128 is added. It goes
through the very function that `--analyze` runs in its processes (`drift.measure`), in one process of one thread. The
projection is (1 + steps) decompositions of 64 matrices, divided by the number of processes: it takes for granted that
processes of one thread do not slow each other down; `--processes 2` measures how far that is true here.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from sorsa.analysis.drift import measure
from sorsa.analysis.matrices import Matrix
from sorsa.analysis.snapshots import snapshot_file

FIGURE_1 = {"matrices": 64, "steps": 8}  # q_proj and v_proj of 32 layers
RANK = 128


def make_matrix(directory: Path, size: int, steps: int) -> Matrix:
    """Write the snapshots of one matrix (size x size) of a method without factors, and return it."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(size, size, generator=draw) * (torch.arange(1, size + 1) ** -0.3) / size**0.5
    for step in range(steps + 1):
        change = torch.randn(size, RANK, generator=draw) @ torch.randn(RANK, size, generator=draw)
        weight_now = weight + step * 1e-4 * change / RANK**0.5
        save_file({"w.weight": weight_now}, snapshot_file(directory, step))
    return Matrix("w", weight, nn.Linear(1, 1, device="meta"), False, directory, tuple(range(steps + 1)))


def reference(matrix: Matrix) -> list[tuple[float, float]]:
    """Return dSigma and dD of each step by the paper's formulas, in NumPy's FP64 and nothing of ours."""
    U0, s0, Vt0 = np.linalg.svd(matrix.weight.double().numpy())
    found = []
    for step in matrix.steps:
        U, s, Vt = np.linalg.svd(matrix.at(step)[0].double().numpy())
        k = len(s)
        angles = sum(abs(U[:, i] @ U0[:, i]) + abs(Vt[i] @ Vt0[i]) for i in range(k))
        found.append((sum(abs(s - s0)) / k, 1 - angles / (2 * k)))
    return found


def timed(matrix: Matrix, precision: str) -> tuple[float, float, list[dict]]:
    """Return wall-clock and processor seconds of one matrix with all its steps, and its rows."""
    begin, cpu = time.perf_counter(), time.process_time()
    rows = measure(matrix, precision, RANK)["steps"]
    return time.perf_counter() - begin, time.process_time() - cpu, rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--precision", choices=("fp64", "fp32"), default="fp64")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--reference", action="store_true", help="also decompose with plain NumPy and compare")
    args = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # read by the children when they load NumPy
    with tempfile.TemporaryDirectory() as folder:
        matrix = make_matrix(Path(folder), args.size, args.steps)
        with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
            found = pool.starmap(timed, [(matrix, args.precision)] * args.processes)
        for wall, cpu, _ in found:
            print(
                f"{args.size} x {args.size}, {args.precision}, W0 and {args.steps} steps: {wall:.1f} s, CPU {cpu:.1f} s"
            )
        each = max(cpu for _, cpu, _ in found) / (1 + args.steps)
        whole = FIGURE_1["matrices"] * (1 + FIGURE_1["steps"]) * each
        print(f"one decomposition with its measures: {each:.1f} CPU-seconds")
        for cores in (2, 16):
            print(f"Figure 1 (64 matrices x 8 steps), projected on {cores} cores: {whole / cores / 60:.0f} minutes")
        if args.reference:
            for (dSigma, dD), row in zip(reference(matrix), found[0][2], strict=True):
                print(
                    f"step {row['step']}: dSigma {row['dSigma']:.8f} NumPy {dSigma:.8f} (difference "
                    f"{abs(row['dSigma'] - dSigma):.1e}), dD {row['dD']:.8f} NumPy {dD:.8f} ({abs(row['dD'] - dD):.1e})"
                )


if __name__ == "__main__":
    main()
