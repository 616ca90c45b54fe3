"""`run.py --name X --analyze`: dSigma, dD and their kin for every adapted matrix at every snapshot (section 6.1).

The paper takes the SVD on the CPU, because a GPU's is not precise enough; so do we, in FP64 unless asked otherwise. One
task is one matrix with all its steps, so that `W0` is decomposed once. Tasks run in several processes; each finished
matrix is a line of `analysis/matrices.jsonl` at once, and the same command again does only those that are missing.

analysis/drift.json:
    schema, precision, rank_of_top, seconds (of the matrices, all sessions, summed over processes), versions, git, host
    matrices [ {name, shape [m, n], layer, seconds, steps [ {step, ...MEASURES} ] } ]
    mean [ {step, ...MEASURES} ]     over the matrices that have a value
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from sorsa.analysis import spectra
from sorsa.analysis.matrices import Matrix, read_matrices
from sorsa.analysis.snapshots import snapshot_file, snapshot_files
from sorsa.errors import UsageError
from sorsa.files import write_json, write_whole
from sorsa.methods import lacks
from sorsa.run_folder import RunFolder, environment, read_metrics

if TYPE_CHECKING:
    from sorsa.config import RunConfig

logger = logging.getLogger(__name__)

SCHEMA = 1
FP32 = float(np.finfo(np.float32).eps)  # of snapshots and weights: what adding an update to W0 leaves of it
TOP = 16  # leading indices of dD_top for a method that has no rank
MEASURES = ("dSigma", "dD", "dD_top", "ties", "condition_principal", "condition_merged")
MEASURES += ("orthonormality_U", "orthonormality_V", "effective_rank")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def analyze(config: RunConfig, precision: str = "fp64", workers: int | None = None) -> None:
    """Write a run's `analysis/drift.json` and print the means over the matrices, a line per step.

    Args:
        config: The settings the run was trained with.
        precision: Of the SVD, a key of `spectra.PRECISIONS`.
        workers: Processes; default one per CPU, and no more than there are matrices. Each holds one matrix with its
            decomposition: at 4096 x 4096 in FP64 1.5 GB.

    Raises:
        UsageError: The run has no snapshots, or not these snapshots of this model; or bad values of the arguments.
        KeyboardInterrupt: Stopped; finished matrices are kept.
    """
    _check_arguments(precision, workers)
    folder = RunFolder(config.run_path, config.name)
    matrices = read_matrices(config, folder.snapshots)
    top = TOP if lacks(config.peft, "rank") else config.rank
    done = _Done(folder.analysis / "matrices.jsonl", _fingerprint(folder.snapshots, precision, top))
    missing = [matrix for matrix in matrices if matrix.name not in done.rows]
    with tqdm(total=len(matrices), initial=len(matrices) - len(missing), unit="matrix", desc="analyze") as bar:
        for row in _in_processes(missing, precision, top, workers or os.cpu_count() or 1):
            done.append(row)
            bar.update()
    rows = [done.rows[matrix.name] for matrix in matrices]
    record = {
        "schema": SCHEMA,
        "precision": precision,
        "rank_of_top": top,
        "seconds": round(sum(row["seconds"] for row in rows), 3),
        **{key: value for key, value in environment().items() if key != "command"},
        "matrices": rows,
        "mean": _means(rows),
    }
    write_json(folder.drift, record)
    _print(config.name, record, folder.drift)


def _check_arguments(precision: str, workers: int | None) -> None:
    if precision not in spectra.PRECISIONS:
        raise UsageError(f"--svd-precision {precision!r}: must be one of {', '.join(spectra.PRECISIONS)}")
    if workers is not None and workers < 1:
        raise UsageError(f"--processes {workers}: must be at least 1")


def measure(matrix: Matrix, precision: str, top: int) -> dict[str, Any]:
    """Return the row of one matrix: its measures at every step.

    Args:
        matrix: What to measure.
        precision: A key of `spectra.PRECISIONS`.
        top: Leading indices of `dD_top`; a smaller matrix has only its own.
    """
    begin = time.perf_counter()
    number = spectra.PRECISIONS[precision]
    W0 = matrix.weight.numpy().astype(number)  # (m, n)
    start = spectra.svd(W0)
    steps = []
    for step in matrix.steps:
        weight, factors = matrix.at(step)
        if not weight.isfinite().all():
            raise UsageError(
                f"{snapshot_file(matrix.directory, step)}: {matrix.name} holds numbers that are not finite, as after a "
                "training that diverged; delete it to analyse the others"
            )
        W = weight.numpy().astype(number)
        now = start if np.array_equal(W, W0) else spectra.svd(W)
        row: dict[str, Any] = {"step": step, **dict.fromkeys(MEASURES)}
        row |= spectra.drift(start, now, min(top, len(start.sigma)))
        row["condition_merged"] = spectra.condition_number(now.sigma)
        row["effective_rank"] = spectra.effective_rank(W - W0, rounding=FP32 * start.sigma[0])
        if factors is not None:
            U, S, Vt = (tensor.numpy().astype(number) for tensor in factors)
            row["condition_principal"] = spectra.condition_number(spectra.principal_values(U, S, Vt))
            row["orthonormality_U"], row["orthonormality_V"] = spectra.orthonormality(U), spectra.orthonormality(Vt.T)
        steps.append(row)
    seconds = round(time.perf_counter() - begin, 3)
    return {
        "name": matrix.name,
        "shape": list(W0.shape),
        "layer": matrix.number,
        "seconds": seconds,
        "steps": steps,
    }


def _in_processes(matrices: list[Matrix], precision: str, top: int, workers: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of the matrices as they are finished; with one worker in this process.

    At most two tasks per process are under way, so that not all weights are copied at once.
    """
    workers = min(workers, len(matrices))
    if workers <= 1:
        yield from (measure(matrix, precision, top) for matrix in matrices)
        return
    import multiprocessing

    for name in _THREADS:  # read by the children when they load NumPy
        os.environ.setdefault(name, str(max(1, (os.cpu_count() or 1) // workers)))
    waiting = iter(matrices)
    spawn = multiprocessing.get_context("spawn")  # fork and OpenMP do not go together
    pool = ProcessPoolExecutor(workers, spawn)
    # Ctrl-C and SIGTERM stop this process, which stops its children: without a traceback of theirs
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what the children are started with, by the first `submit`
        running: set[Future] = {pool.submit(measure, one, precision, top) for one in islice(waiting, 2 * workers)}
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(measure, one, precision, top) for one in islice(waiting, len(finished))}
            yield from (future.result() for future in finished)
    except BrokenProcessPool as error:
        raise UsageError(
            "a process of the analysis was killed, for want of memory perhaps: the same command again goes on, with "
            f"fewer --processes than {workers}"
        ) from error
    finally:
        children = list((pool._processes or {}).values())  # shutdown forgets them
        pool.shutdown(wait=False, cancel_futures=True)
        for process in children:  # a decomposition takes minutes: Ctrl-C means now
            process.terminate()
        for number, handler in before.items():
            signal.signal(number, handler)


class _Done:
    """The rows that are finished, kept in a file whose first line tells what they belong to."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        head, *rows = _kept(path)
        if head.get("fingerprint") == fingerprint:
            self.rows = {row["name"]: row for row in rows if "name" in row}
        elif rows:
            logger.warning("%s: of other snapshots or another precision, so it is made anew", path)
        lines = [{"fingerprint": fingerprint}, *self.rows.values()]
        write_whole(path, "".join(json.dumps(line) + "\n" for line in lines))  # without a last line cut off by a crash

    def append(self, row: dict[str, Any]) -> None:
        """Keep a finished row."""
        self.rows[row["name"]] = row
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


def _kept(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file of finished rows; an empty one where there is no such file, or a damaged one."""
    try:
        return read_metrics(path) or [{}]
    except UsageError as error:
        logger.warning("%s, so all is made anew", str(error).split(";")[0])
        return [{}]


def _fingerprint(snapshots: Path, precision: str, top: int) -> str:
    """Return what tells whether finished rows belong to these snapshots and this request: names, sizes, times."""
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in snapshot_files(snapshots).values()]
    return hashlib.sha256(json.dumps([SCHEMA, files, precision, top]).encode()).hexdigest()


def _means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each measure's mean over the matrices that have a value, by step; None where none has."""
    means = []
    for place, first in enumerate(rows[0]["steps"]):
        mean = {"step": first["step"]}
        for key in MEASURES:
            values = [row["steps"][place][key] for row in rows if row["steps"][place][key] is not None]
            mean[key] = float(np.mean(values)) if values else None
        means.append(mean)
    return means


def _print(name: str, record: dict[str, Any], path: Path) -> None:
    """Print the means over the matrices, a line per step."""
    titles = ("step", *MEASURES)
    lines = [titles, *([_cell(mean[key]) for key in titles] for mean in record["mean"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    print(f"{name}: means over {len(record['matrices'])} matrices, {record['seconds']:.1f} process-seconds")
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(f"record: {path}")


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"
