"""One process per stage (`--train`, `--merge`, ...), its log, what is skipped because it is done, and Ctrl-C."""

from __future__ import annotations

import fcntl
import logging
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Self

from sorsa.comparison.runs import Run
from sorsa.errors import UsageError
from sorsa.evaluation.perplexity import NAME as PERPLEXITY
from sorsa.files import write_whole

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STOPPED = 130  # exit code of a stage that a signal stopped after saving
_REASON_LENGTH = 300  # characters of a failed stage's last line


class Stages:
    """Runs stages in child processes, as a context manager; each call of a method waits for its own child.

    While it is open its folder is locked, and SIGINT, SIGTERM and SIGHUP go to the children: they save and end, then
    KeyboardInterrupt is raised. Several threads may use it.

    Args:
        home: The comparison's folder, made if it is missing.
        command: The program, before run.py's flags.
        announce: Told the run and the stage that begins.
    """

    def __init__(self, home: Path, command: Sequence[str], announce: Callable[[str], object]) -> None:
        self._command, self._logs, self._lock_file = list(command), home / "logs", home / ".lock"
        self._announce = announce
        self._children: set[subprocess.Popen] = set()
        self._stopping = False

    def __enter__(self) -> Self:
        """Lock the folder and listen to signals. Raises UsageError where another comparison is at work."""
        self._logs.mkdir(parents=True, exist_ok=True)
        self._lock = self._lock_file.open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UsageError(
                f"{self._lock_file.parent}: another --compare, or a stage that it left running, is at work there; wait "
                "for it or stop it, or give another --name"
            ) from None
        # nohup ignores SIGHUP, and so does this
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._stop) for number in heeded}
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals and the lock back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._lock.close()

    def validate(self, run: Run) -> None:
        """Bring a run to its score on the validation questions; a training that diverges is left without one."""
        if run.validation_result() is not None or not self._make_merged(run):
            return
        link = run.validation.merged  # --test looks for the model in the folder it writes to
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(run.folder.merged, link.parent), target_is_directory=True)
        where = ["--run-path", str(run.validation.run_path), "--test-file", run.config.valid_file]
        self._call(run, "test", "validate", *where)
        link.unlink()

    def test(self, run: Run) -> None:
        """Bring a run to its score on the test split; a training that diverges is left without one.

        Where its configuration asks for them, what it has forgotten (`forgetting_file`) and how far its weights have
        moved (`snapshots`) are measured too.
        """
        if run.test_result() is None and self._make_merged(run):
            self._call(run, "test", "test")
        text = run.config.forgetting_file
        if text and run.perplexity() is None and self._make_merged(run):
            self._call(run, "test", "forgetting", "--test-dataset", PERPLEXITY, "--test-file", text)
        if run.config.snapshots and run.drift() is None and run.trained:
            self._call(run, "analyze", "analyze", "--processes", "1")

    def measure_base(self, run: Run) -> None:
        """Take the perplexity of the base model that a run starts from, if it asks for perplexities."""
        text = run.config.forgetting_file
        if text and run.perplexity_before() is None:
            write_whole(run.yaml, run.config.to_yaml())
            words = ["--base", "--run-path", str(run.untrained.run_path)]
            self._call(run, "test", "base", *words, "--test-dataset", PERPLEXITY, "--test-file", text)

    def stop(self) -> None:
        """Let the running stages save and end, and no other begin."""
        self._stopping = True
        for child in list(self._children):
            child.send_signal(signal.SIGINT)

    def _make_merged(self, run: Run) -> bool:
        """Bring a run to a merged model; return False where its training diverged, now or before."""
        write_whole(run.yaml, run.config.to_yaml())
        if run.diverged:
            return False
        if not run.merged:
            if not run.trained and not self._train(run):
                return False
            self._call(run, "merge", "merge")
        run.discard_checkpoints()
        return True

    def _train(self, run: Run) -> bool:
        """Train a run; return False where it diverged, which is a result and ends nothing else."""
        try:
            self._call(run, "train", "train")
        except UsageError as error:
            if not run.diverged:
                raise
            logger.warning("\n%s", error)
            return False
        return True

    def _call(self, run: Run, mode: str, stage: str, *flags: str) -> None:
        """Run one stage to its end.

        Args:
            run: The run.
            mode: The mode's flag.
            stage: What the progress bar calls it.
            *flags: Further flags.

        Raises:
            UsageError: It failed.
            KeyboardInterrupt: It was stopped by a signal.
        """
        if self._stopping:  # the signal came between two stages
            raise KeyboardInterrupt
        self._announce(f"{run.name}: {stage}")
        words = ["--name", run.name, "--config-dir", str(run.yaml.parent), *flags, f"--{mode}"]
        log = self._logs / f"{run.name}.log"
        code, output = self._in_child([*self._command, *words], log)
        if self._stopping or code == _STOPPED:
            raise KeyboardInterrupt
        if code:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise UsageError(
                f"run {run.name!r}: {stage} failed ({how}): {_reason(output)}; its log is {log}; the same command "
                "again goes on from there"
            )

    def _in_child(self, command: list[str], log: Path) -> tuple[int, str]:
        """Run a command to its end; append what it prints to a log.

        Returns:
            The exit code, negative for a signal; and what it printed.
        """
        # the bars of hours would fill the logs; a session of its own keeps the terminal's Ctrl-C from arriving twice
        environment = {"TQDM_MININTERVAL": "10"} | os.environ
        with log.open("ab+") as stream:
            stream.write(f"$ {shlex.join(command)}\n".encode())
            stream.flush()
            begin = stream.tell()
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=[self._lock.fileno()],  # should this process be killed, the child keeps the folder locked
            )
            self._children.add(child)
            if self._stopping:  # the signal came while it was being started
                child.send_signal(signal.SIGINT)
            code = child.wait()
            self._children.discard(child)
            stream.seek(begin)
            return code, stream.read().decode("utf-8", "replace")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on as Ctrl-C; a second one makes the children stop without saving."""
        if self._children:
            logger.warning("\nstopping: waiting for the running stage to save; press Ctrl-C again to stop at once")
        self.stop()


def _reason(output: str) -> str:
    """Return the line of a failed stage's output that says why: its `error:`, or else the last (a traceback's end)."""
    lines = [line.strip() for line in output.replace("\r", "\n").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it printed nothing"])[-1][:_REASON_LENGTH]
