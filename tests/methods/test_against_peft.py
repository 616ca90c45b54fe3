"""Our runs of PEFT's methods against `bench/plain_peft.py`, which uses transformers and PEFT and none of our code."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from sorsa.config_files import CHECKOUT
from sorsa.run_folder import RunFolder, read_metrics
from sorsa.training import train


@pytest.mark.parametrize("method", ["pissa", "adalora"])  # `bench/plain_peft.py` knows six; a process takes seconds
def test_the_same_losses(tiny_config, tmp_path, method):
    schedule = {"init_rank": 6, "t_init": 1, "t_final": 3} if method == "adalora" else {"decomposition": "exact"}
    config = tiny_config(peft=method, batch_size=4, accum_steps=1, **schedule)
    train(config)
    ours = [row["loss"] for row in read_metrics(RunFolder(config.run_path, config.name).metrics)]
    script = [sys.executable, str(CHECKOUT / "bench" / "plain_peft.py"), "--model", config.model, "--method", method]
    script += ["--rows", config.train_dataset, "--rank", "4", "--init-rank", "6", "--t-init", "1", "--t-final", "3"]
    done = subprocess.run([*script, "--steps", "6"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout.splitlines()[-1])
    assert ours == pytest.approx(theirs, abs=1e-5) and ours[0] > ours[-1]
