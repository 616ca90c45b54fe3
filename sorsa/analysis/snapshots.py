"""Snapshots: what was trained, at chosen steps of a training, in `runs/NAME/snapshots/step-NNNNNN.safetensors`.

An adapter's file has its own tensors and none of the base's: at step 0 all of them, later those that differ from step
0's, so that SORSA's initial factors are stored once. A method without adapter has no factors: its files hold the
trained matrices themselves, FP32 (for the q_proj and v_proj of a 7B model 4.3 GB each).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sorsa.adapters.fingerprint import probe
from sorsa.errors import UsageError

PROBE = "probe/"  # before a matrix's name: a sample of W0, at step 0, which tells a wrong base model


def snapshot_file(directory: Path, step: int) -> Path:
    """Return the file of one step."""
    return directory / f"step-{step:06d}.safetensors"


def snapshot_files(directory: Path) -> dict[int, Path]:
    """Return the snapshots of a run by step, ascending."""
    files = {path.stem.removeprefix("step-"): path for path in directory.glob("step-*.safetensors")}
    return dict(sorted((int(step), path) for step, path in files.items() if step.isdigit()))


def steps_to_keep(snapshots: int, steps: int) -> set[int]:
    """Return the steps to keep: 0, and the ends of `snapshots` equal parts of the `steps` T of a run."""
    return {round(part * steps / snapshots) for part in range(snapshots + 1)}


def trained_matrices(model: nn.Module) -> dict[str, nn.Module]:
    """Return what a run trains, by the name it has in the base model: tuner layers, or linear layers of their own.

    Args:
        model: An adapted model, or one with whole weights to train.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(model, PeftModel):
        named = model.base_model.model.named_modules()
        return {name: module for name, module in named if isinstance(module, BaseTunerLayer)}
    head = model.get_output_embeddings()
    linear = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head)
    return {name: module for name, module in linear if module.weight.requires_grad}


def trained_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of one such layer that are not the base's: of a linear layer its weight.

    Args:
        module: A value of `trained_matrices`.
    """
    if isinstance(module, nn.Linear):
        yield "weight", module.weight.detach()
        return
    for name, tensor in module.state_dict().items():
        if not name.startswith("base_layer."):
            yield name, tensor


class SnapshotWriter(TrainerCallback):
    """Writes a snapshot at the start of a training and at the end of each of several equal parts of it.

    On resuming, snapshots of steps that will be done again are deleted.

    Args:
        directory: The run's `snapshots/`.
        number: The number of parts.
    """

    def __init__(self, directory: Path, number: int) -> None:
        self.directory = directory
        self.number = number

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: Any
    ) -> None:
        """Write step 0, or drop what lies after the checkpoint that is resumed from.

        Raises:
            UsageError: The run is resumed and its first snapshot is gone, on which the others stand.
        """
        if not state.is_world_process_zero:
            return
        files = snapshot_files(self.directory)
        if state.global_step and 0 not in files:
            raise UsageError(
                f"{snapshot_file(self.directory, 0)}: missing, and the snapshots to come need it; copy it back, or "
                "start anew with --overwrite"
            )
        for step, path in files.items():
            if step > state.global_step:
                path.unlink()
        if not state.global_step:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._write(model, 0)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **kwargs: Any
    ) -> None:
        """Write the step just done, if it is one of those to keep."""
        if state.is_world_process_zero and state.global_step in steps_to_keep(self.number, state.max_steps):
            self._write(model, state.global_step)

    def _write(self, model: nn.Module, step: int) -> None:
        from safetensors import safe_open
        from safetensors.torch import save_file

        tensors, shared = _own_tensors(model)
        if step:
            with safe_open(snapshot_file(self.directory, 0), framework="pt") as start:
                known = set(start.keys())
                tensors = {n: t for n, t in tensors.items() if n not in known or not _same(start.get_tensor(n), t)}
        else:
            tensors |= {
                PROBE + name: probe(start_weight(layer)).cpu() for name, layer in trained_matrices(model).items()
            }
        path = snapshot_file(self.directory, step)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            # `or None`: with empty metadata, a file of no tensors (nothing has changed) would be unreadable
            save_file(tensors, temporary, metadata=shared or None)
            temporary.chmod(0o644)  # safetensors writes for the owner alone
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _own_tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what a run trains, on the CPU, by name; and of what several layers share, the name it is kept under."""
    tensors: dict[str, Tensor] = {}
    places: dict[tuple[int, ...], str] = {}
    shared: dict[str, str] = {}
    for name, module in trained_matrices(model).items():
        for own, tensor in trained_tensors(module):
            place = (tensor.data_ptr(), *tensor.shape)
            if tensor.numel() and place in places:  # VeRA's two matrices belong to all layers
                shared[f"{name}.{own}"] = places[place]
                continue
            places[place] = f"{name}.{own}"
            tensors[f"{name}.{own}"] = tensor.cpu().contiguous()
    return tensors, shared


def _same(before: Tensor, now: Tensor) -> bool:
    return before.shape == now.shape and torch.equal(before, now)


def start_weight(module: nn.Module) -> Tensor:
    """Return the weight `W0` (m, n) around which one such layer is built, before its first step.

    PiSSA's and OLoRA's start in PEFT has left the base weight; here it is added back.

    Args:
        module: A value of `trained_matrices`, at step 0.
    """
    if isinstance(module, nn.Linear):
        return module.weight.detach()
    return module.get_base_layer().weight.detach() + module.get_delta_weight(module.active_adapters[0])
