"""The processes behind --compare: failures in one line, Ctrl-C passed on, two comparisons at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sorsa.comparison.stages import Stages
from sorsa.errors import UsageError


def test_a_failed_stage_is_one_line_and_a_log(bench) -> None:
    bench.plan(fail_at=1)
    with pytest.raises(UsageError) as failed:
        bench.compare(bench.write("d"), seeds=1)
    log = Path("out/comparison-d/logs/d-lr0.002-seed42.log")
    assert str(failed.value) == (
        "run 'd-lr0.002-seed42': merge failed (exit code 2): the loss is nan at step 3; its log is "
        f"{log}; the same command again goes on from there"
    )
    text = log.read_text()
    assert "--config-dir out/comparison-d/configs --train\n$ " in text and "20%|##" in text


def test_a_killed_stage(bench) -> None:
    bench.plan(fail_at=0, how="killed")
    with pytest.raises(UsageError, match=r"train failed \(killed by SIGKILL\): it printed nothing;"):
        bench.compare(bench.write("d"), seeds=1)


def test_a_traceback_ends_with_its_last_line(tmp_path) -> None:
    code = "print('working'); raise RuntimeError('no such thing')"
    with Stages(tmp_path, [sys.executable], announce=print) as stages:
        exit_code, output = stages._in_child([sys.executable, "-c", code], tmp_path / "log")
    assert exit_code == 1 and output.splitlines()[-1] == "RuntimeError: no such thing"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_stage_once_and_the_same_command_continues(bench, number: int) -> None:
    bench.plan(wait_at=0)
    outside = signal.signal(number, signal.default_int_handler)  # a job in the background is born ignoring Ctrl-C
    before = signal.getsignal(number)

    def send() -> None:
        while not Path("waiting").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    file = bench.write("d")
    with pytest.raises(KeyboardInterrupt):
        bench.compare(file, seeds=1)
    thread.join()
    assert Path("signals").read_text() == "1"
    assert signal.getsignal(number) == before
    signal.signal(number, outside)
    assert bench.calls() == []
    assert bench.compare(file, seeds=1)["status"] == "finished"


def test_a_stage_that_was_stopped_itself_stops_the_comparison(bench) -> None:
    """Somebody sent Ctrl-C to the training, which saved and left with 130: no failure."""
    code = "import sys; sys.exit(130)"
    from sorsa.comparison import compare

    with pytest.raises(KeyboardInterrupt):
        compare({"compare": [bench.write("d")], "run_path": "out"}, command=(sys.executable, "-c", code))


def test_two_comparisons_in_one_folder(bench) -> None:
    file = bench.write("d")
    with Stages(Path("out/comparison-d"), ["none"], announce=print):
        with pytest.raises(UsageError, match=r"^out/comparison-d: another --compare, or a stage that it left running"):
            bench.compare(file, seeds=1)
        bench.compare(file, seeds=1, name="other")
    bench.compare(file, seeds=1)


def test_a_stage_outlives_a_killed_comparison_and_keeps_the_folder(tmp_path) -> None:
    """kill -9 leaves the running stage alone; a second comparison must not write into its folder."""
    code = f"""
import sys
from pathlib import Path
from sorsa.comparison.stages import Stages
with Stages(Path({str(tmp_path)!r}), ["none"], announce=print) as stages:
    stages._in_child([sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
                     Path({str(tmp_path / "log")!r}))
"""
    with subprocess.Popen([sys.executable, "-c", code]) as comparison:
        log = tmp_path / "log"
        while not (log.is_file() and log.read_text().endswith("\n") and log.read_text().count("\n") == 2):
            assert comparison.poll() is None
            time.sleep(0.02)
        comparison.kill()
    with pytest.raises(UsageError, match="a stage that it left running"), Stages(tmp_path, ["none"], announce=print):
        pass
    os.kill(int(log.read_text().splitlines()[1]), signal.SIGKILL)
