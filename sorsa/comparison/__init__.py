"""Comparing methods on one machine: `run.py --compare configs/demo_*.yaml --seeds 5` trains, merges and tests them all.

Every method gets its own best learning rate: each value of its YAML's `lr_grid` is trained with the first seed and
scored on the questions of `valid_file`; the best one wins, of equals the smaller. The winner is then tested on the
test split with every seed (the YAML's `seed`, + 1, ...); its first seed is the grid's run, so a method costs
len(lr_grid) + seeds - 1 trainings. A YAML without `lr_grid` runs with its own `lr`. Where a grid changes `lr`, `gamma`
changes with it, so that the regularizer keeps its weight gamma / lr (Eq. 3).

inputs.py   the YAML files -> one `Method` each; everything that can be wrong before anything runs
runs.py     `Method` and `Run`: which runs there are, what they have reached, which learning rate won
stages.py   one process per stage, its log, Ctrl-C
record.py   comparison.json and the printed table

RUN_PATH/comparison-NAME/
    comparison.json     written whole after each finished run; everything in it is read from the runs' own records
    configs/RUN.yaml    the resolved settings of a run: python run.py --name RUN --config-dir .../configs --train
    runs/RUN/           an ordinary run folder (`sorsa.run_folder`); its results are those on the test split
    validation/RUN/     results on the validation questions, apart, so that choosing never sees the test split
    logs/RUN.log        what the run's processes printed

comparison.json:
    name, status ("running" | "finished"), started, command, model, train_dataset, test_dataset, test_file, valid_file,
    limit, forgetting_file, perplexity_before (of the base model) | null, rule (of grading), seeds [int],
    gamma_rule (how gamma follows lr)
    environments        distinct {git, versions, host} of the runs; more than one means that something changed meanwhile
    methods [           in the order of the command
        config, file, peft, rank (null where the method has none), trainable_parameters, total_parameters
        grid [          empty without lr_grid; ascending
            lr, gamma (null: the method has none), run, validation {correct, total, accuracy, interval_95} | null,
            diverged (its loss was no finite number any more: it cannot win, and has no test)
        ]
        lr, gamma, validation_accuracy      of the winner; null until the grid is complete
        runs [          one per seed, ascending
            seed, run, test {correct, total, accuracy, interval_95} | null, perplexity (of forgetting_file) | null,
            drift (last step's means over the matrices, as in analysis/drift.json) | null, first_loss, last_loss, steps,
            tokens, seconds, seconds_per_step, peak_host_bytes, peak_gpu_bytes, diverged
        ]
        test {n, mean, sd (of the sample, null for n = 1), interval_95 (counts both seeds and questions, read from the
            rows in results/; Wilson's for n = 1; null where the rows are missing or of other questions)} | null
    ]
Accuracies are shares (0 to 1), sizes bytes, losses nats per response token (AdaLoRA's with its
regularizer), `run` a name under runs/, null: not yet.

Disk: what was trained stays (an adapter; for full fine-tuning the whole model in FP32, per run), and for PiSSA and
OLoRA its start. Merged models are deleted after their test, a training's checkpoints after its end, so that at most two
merged models and one training's two checkpoints exist at a time.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from sorsa.errors import UsageError

if TYPE_CHECKING:
    from sorsa.comparison.runs import Method, Run
    from sorsa.comparison.stages import Stages

logger = logging.getLogger(__name__)

RUN_PY = Path(__file__).resolve().parent.parent.parent / "run.py"


def compare(flags: dict[str, Any], command: Sequence[str] = (sys.executable, str(RUN_PY))) -> None:
    """Train, merge and test several methods with several seeds, print a table (mode `--compare`).

    The same call continues where an earlier one was stopped; finished stages are not repeated.

    Args:
        flags: `compare` (paths of YAML files), and optionally `seeds` (default 5), `run_path`, `name`, and `processes`
            (methods at work at a time, default 1).
        command: The program that runs one stage, given run.py's flags.

    Raises:
        UsageError: Bad input, found before anything runs; or a stage failed (names the run and its log).
        KeyboardInterrupt: Stopped by a signal, which the running stage was given too.
    """
    from tqdm import tqdm

    from sorsa.comparison.inputs import read_comparison
    from sorsa.comparison.record import table, write_record
    from sorsa.comparison.stages import Stages

    processes = _processes(flags)
    comparison = read_comparison(flags)
    total = sum(len(one.candidates) + len(one.seeds) - 1 for one in comparison.methods)
    with (
        tqdm(total=total, unit="run", desc=comparison.name) as bar,
        Stages(comparison.home, command, announce=bar.set_description_str) as stages,
    ):
        lock = Lock()

        def done(runs: int) -> None:
            with lock:
                write_record(comparison)
                bar.update(runs)

        done(0)
        stages.measure_base(comparison.first)
        _run_methods(comparison.methods, processes, stages, done)
    print(table(write_record(comparison)))
    print(f"record: {comparison.record}")


def _processes(flags: dict[str, Any]) -> int:
    """Take `processes` out of the flags and return it; several share the CPUs, as far as nothing else is asked."""
    processes = flags.pop("processes", 1)
    if processes < 1:
        raise UsageError(f"--processes {processes}: must be at least 1")
    if processes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return processes


def _run_methods(methods: Sequence[Method], processes: int, stages: Stages, done: Callable[[int], None]) -> None:
    """Run all methods, several at a time; the first failure lets the others' running stages save, and is raised."""
    with ThreadPoolExecutor(processes) as pool:
        running = [pool.submit(_run_method, method, stages, done) for method in methods]
        _, rest = wait(running, return_when=FIRST_EXCEPTION)
        if rest:
            stages.stop()
            for one in rest:
                one.cancel()
    # stopping makes the others end with KeyboardInterrupt: what made them stop comes first
    errors = [error for one in running if not one.cancelled() and (error := one.exception())]
    for error in sorted(errors, key=lambda one: isinstance(one, KeyboardInterrupt)):
        raise error


def _run_method(method: Method, stages: Stages, done: Callable[[int], None]) -> None:
    """Choose a method's learning rate on the validation questions, then test it with every seed.

    Args:
        method: The method.
        stages: Runs them.
        done: Called with the number of further runs that will not be needed again.
    """
    if method.has_grid:
        tried: list[Run] = []
        for run in method.candidates:
            stages.validate(run)
            tried.append(run)
            best = method.best_of(tried)
            for other in tried:
                if other is not best:
                    other.discard_merged()
            done(1 if len(tried) > 1 else 0)  # the best one, whichever it is, is still to be tested
        if best is None:
            logger.warning(
                "\n%s: training diverged with every learning rate of lr_grid = %s; give it smaller ones",
                method.config.name,
                method.config.lr_grid,
            )
    for run in method.runs():
        stages.test(run)
        run.discard_merged()
        done(1)
