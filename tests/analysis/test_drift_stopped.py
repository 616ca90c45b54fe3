"""`--analyze` in several processes, stopped by a signal: all processes end at once, and without a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SIZE = 3000  # one decomposition in FP64 takes longer than the end is waited for
ANALYSIS = f"""
import signal, sys
from pathlib import Path
import torch
from sorsa.analysis.drift import _in_processes
from sorsa.analysis.matrices import Matrix

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would inherit that it is ignored
    weight = torch.randn({SIZE}, {SIZE}, generator=torch.Generator().manual_seed(0))
    matrices = [Matrix(str(n), weight, torch.nn.Linear(1, 1), False, Path(), ()) for n in range(4)]
    try:
        list(_in_processes(matrices, "fp64", 4, 2))
    except KeyboardInterrupt:
        sys.exit(130)
"""


def workers_of(pid: int) -> list[int]:
    """Return the processes of the pool that a process has started; multiprocessing's tracker is none."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        command = Path(f"/proc/{child}/cmdline").read_text()
        found += [int(child)] if "spawn_main" in command else []
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_quietly(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "analysis.py"
    script.write_text(ANALYSIS)
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(workers := workers_of(process.pid)) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(3)  # they have loaded NumPy and are at work, or wait for it
    process.send_signal(number)
    for worker in workers:
        if number == signal.SIGINT and Path(f"/proc/{worker}").exists():  # a terminal sends it to the whole group
            subprocess.run(["kill", "-INT", str(worker)], check=False)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and err == ""
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
