"""metrics.jsonl, the mark of a checkpoint and the reaction to signals, each without a model."""

from __future__ import annotations

import json
import signal
import threading
import time

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from sorsa.errors import UsageError
from sorsa.run_folder import read_metrics
from sorsa.training.callbacks import CheckpointMarker, GracefulStop, MetricsWriter
from sorsa.training.checkpoints import is_complete


@pytest.fixture
def args(tmp_path):
    """Arguments with tmp_path as the checkpoints' folder."""
    return TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")


def _state(step, tokens=0):
    return TrainerState(global_step=step, num_input_tokens_seen=tokens, is_world_process_zero=True)


def test_rows_are_written_and_later_ones_dropped_on_resuming(args, tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.on_train_begin(args, _state(0), TrainerControl())
    for step in (1, 2, 3):
        time.sleep(0.01)
        writer.on_log(args, _state(step, 100 * step), TrainerControl(), {"loss": 1.0 / step, "epoch": 0.1})
    writer.on_log(args, _state(3, 300), TrainerControl(), {"train_runtime": 1.0})  # the Trainer's summary is no row
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    assert [row["tokens"] for row in read_metrics(path)] == [100, 200, 300]
    assert all(0 < row["tokens_per_second"] <= 100 / 0.01 for row in read_metrics(path))
    MetricsWriter(path).on_train_begin(args, _state(2, 200), TrainerControl())
    assert [row["step"] for row in read_metrics(path)] == [1, 2]


def test_saving_does_not_slow_the_reported_speed(args, tmp_path):
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer.on_train_begin(args, _state(0), TrainerControl())
    time.sleep(0.2)
    writer.on_save(args, _state(0), TrainerControl())
    time.sleep(0.02)
    writer.on_log(args, _state(1, 1000), TrainerControl(), {"loss": 1.0})
    assert read_metrics(writer.path)[0]["tokens_per_second"] > 1000 / 0.2


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_divergence_stops(args, tmp_path, loss):
    writer = MetricsWriter(tmp_path / "metrics.jsonl")
    writer.on_train_begin(args, _state(0), TrainerControl())
    with pytest.raises(UsageError, match=rf"the loss is {loss} at step 7: training diverged; lower --lr"):
        writer.on_log(args, _state(7), TrainerControl(), {"loss": loss})


def test_torn_last_line_is_dropped_but_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(UsageError, match=r"metrics.jsonl line 2: not JSON"):
        read_metrics(path)


def test_checkpoint_is_marked(args, tmp_path):
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "optimizer.pt").write_bytes(b"123")
    CheckpointMarker().on_save(args, _state(4), TrainerControl())
    assert is_complete(tmp_path / "checkpoint-4")
    assert json.loads((tmp_path / "checkpoint-4" / "complete.json").read_text()) == {"sizes": {"optimizer.pt": 3}}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_saves_and_stops_at_the_steps_end(args, number):
    stop, control = GracefulStop(), TrainerControl()
    before = signal.getsignal(number)
    with stop.listening():
        stop.on_step_end(args, _state(1), control)
        assert not (control.should_save or control.should_training_stop)
        signal.raise_signal(number)
        stop.on_step_end(args, _state(2), control)
        assert control.should_save and control.should_training_stop
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_signals_outside_the_main_thread_are_left_alone():
    seen = []

    def other():
        with GracefulStop().listening():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert seen == [before]
