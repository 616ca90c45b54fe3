"""What several tests of training use: a finished run, and a comparison of two adapters."""

from __future__ import annotations

import pytest

from sorsa.run_folder import RunFolder


@pytest.fixture(scope="session")
def undisturbed(make_config, tmp_path_factory):
    """The settings of a finished SORSA run of 6 steps with dropout, whose random state a resumption must restore."""
    from sorsa.training import train

    config = make_config(tmp_path_factory.mktemp("undisturbed"), dropout=0.1)
    train(config)
    return config


@pytest.fixture
def assert_same_adapter():
    """A function `(config, config, tolerance)` that compares what two runs have trained, tensor by tensor."""
    import torch
    from safetensors.torch import load_file

    def trained(config):
        name = "trained_weights.safetensors" if config.peft == "full" else "adapter_model.safetensors"
        return load_file(RunFolder(config.run_path, config.name).adapter / name)

    def compare(left, right, tolerance=1e-6):
        a, b = trained(left), trained(right)
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance, msg=name)

    return compare
