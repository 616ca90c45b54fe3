"""From snapshots back to the weight `W_t` of each adapted matrix, with the method's own layer and one matrix at a time.

No formula of a method is repeated here: its layer is built without weights, gets `W0` and the tensors of a snapshot,
and merges. So a new method needs nothing in this package.
"""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sorsa.adapters.decomposition import Factors
from sorsa.analysis.snapshots import PROBE, snapshot_file, snapshot_files, trained_matrices, trained_tensors
from sorsa.errors import UsageError
from sorsa.methods import find_method

if TYPE_CHECKING:
    from sorsa.config import RunConfig

_LAYER_NUMBER = re.compile(r"\.(\d+)\.")
_SAME_BASE = 1e-5  # of the largest sampled element: W0 is rounded when PiSSA's start leaves it and is added back


@dataclasses.dataclass(frozen=True)
class Matrix:
    """One adapted matrix of a run, with all that is needed to compute its `W_t`.

    Args:
        name: In the base model.
        weight: `W0` (m, n), FP32, on the CPU.
        layer: The method's layer without weights (on the meta device).
        moves_base: Whether the method's start leaves `W0` (`sorsa.methods.Method`).
        directory: The run's snapshots.
        steps: Of the snapshots, ascending, from 0.
    """

    name: str
    weight: Tensor
    layer: nn.Module
    moves_base: bool
    directory: Path
    steps: tuple[int, ...]

    @property
    def number(self) -> int | None:
        """The number of the decoder layer that it is in, None outside of them."""
        found = _LAYER_NUMBER.search(self.name)
        return int(found[1]) if found else None

    @torch.no_grad()
    def at(self, step: int) -> tuple[Tensor, Factors | None]:
        """Return `W_t` (m, n) and the factors of the principal part `Wp`, None for a method that has none; FP32.

        Args:
            step: One of `steps`.
        """
        tensors = self._tensors(step)
        if isinstance(self.layer, nn.Linear):
            return tensors["weight"].float(), None
        layer = self._with(tensors)
        factors = _factors(layer)
        if self.moves_base:
            start, a = self._with(self._tensors(0)), layer.active_adapters[0]
            change = layer.get_delta_weight(a) - start.get_delta_weight(a)
            return self.weight + change, factors
        layer.merge()
        return layer.get_base_layer().weight.detach(), factors

    def _with(self, tensors: dict[str, Tensor]) -> nn.Module:
        """Return the layer with `W0` and one snapshot's tensors in it."""
        layer = copy.deepcopy(self.layer)
        prefix = "base_layer." * _depth(layer)
        layer.load_state_dict(tensors | {f"{prefix}weight": self.weight.clone()}, strict=False, assign=True)
        return layer

    def _tensors(self, step: int) -> dict[str, Tensor]:
        """Return this matrix's tensors at a step; what has not changed comes from step 0."""
        from safetensors import safe_open

        found: dict[str, Tensor] = {}
        for one in dict.fromkeys((0, step)):
            with safe_open(snapshot_file(self.directory, one), framework="pt") as file:
                stored = set(file.keys())
                names = {name: name for name in stored} | (file.metadata() or {})
                own = {n: place for n, place in names.items() if n.startswith(f"{self.name}.") and place in stored}
                found |= {name.removeprefix(f"{self.name}."): file.get_tensor(place) for name, place in own.items()}
        return found


def _depth(layer: nn.Module) -> int:
    """Return how many tuner layers lie around the linear one."""
    return 1 + _depth(layer.base_layer) if hasattr(layer, "base_layer") else 0


def _factors(layer: nn.Module) -> Factors | None:
    """Return `U` (m, r), `S` (r,), `Vt` (r, n) with `U diag(S) Vt` the trained product: ours, or LoRA's `B 1 A`."""
    from peft.tuners.adalora import AdaLoraLayer
    from peft.tuners.lora import LoraLayer

    from sorsa.adapters.residual_layer import ResidualLinear

    a = layer.active_adapters[0]
    if isinstance(layer, ResidualLinear):
        stored = (*layer.trained, "U0", "S0", "Vt0")
        return layer.principal({name: getattr(layer, layer.prefix + name)[a].detach() for name in stored})
    if isinstance(layer, AdaLoraLayer):
        return Factors(layer.lora_B[a].detach(), layer.lora_E[a].detach()[:, 0], layer.lora_A[a].detach())
    if isinstance(layer, LoraLayer):
        B, A = layer.lora_B[a].weight.detach(), layer.lora_A[a].weight.detach()
        return Factors(B, B.new_ones(B.shape[1]), A)
    return None


def read_matrices(config: RunConfig, directory: Path) -> list[Matrix]:
    """Return the adapted matrices of a run, in the model's order.

    Args:
        config: The settings it was trained with.
        directory: Its `snapshots/`.

    Raises:
        UsageError: The run has no snapshots, one of them is damaged or of another model, or the base model is not the
            one it was trained on.
    """
    from sorsa.models import load_base_model, load_skeleton
    from sorsa.planning.counting import adapt_skeleton

    files = snapshot_files(directory)
    if files and 0 not in files:
        raise UsageError(f"{snapshot_file(directory, 0)}: missing, and the others stand on it; copy it back")
    if not files:
        raise UsageError(
            f"run {config.name!r} has no snapshots ({directory}): they are written during training, by --snapshots N "
            "or the line `snapshots: N` of its YAML; train it so, under another --name or with --overwrite"
        )
    for path in files.values():
        _check(path)
    method = find_method(config.peft)
    layers = trained_matrices(adapt_skeleton(load_skeleton(config), config, config.t_init + config.t_final + 1))
    _check_tensors(files, layers)
    weights = dict(load_base_model(config, torch.float32).named_parameters())
    found = []
    for name, layer in layers.items():
        weight = weights[f"{name}.weight"].detach().cpu()
        _check_base(files[0], name, weight, config)
        found.append(Matrix(name, weight, layer, method.moves_base, directory, tuple(files)))
    return found


def _check(path: Path) -> None:
    """Refuse a file that is not what was written; safetensors checks its length against its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path}: not a complete snapshot ({str(error)[:120]}); copy it again, or delete it to analyse the others"
        ) from error


def _check_tensors(files: dict[int, Path], layers: dict[str, nn.Module]) -> None:
    """Refuse snapshots of another method or rank than the layers', and those of another run among them."""
    from safetensors import safe_open

    first, *others = files.values()
    with safe_open(first, framework="pt") as file:
        known = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        shared = file.metadata() or {}
    for layer, module in layers.items():
        for own, tensor in trained_tensors(module):
            name = shared.get(f"{layer}.{own}", f"{layer}.{own}")
            # a layer without weights does not know the shape of what its start would make
            if name not in known or (tensor.numel() and known[name] != tuple(tensor.shape)):
                raise UsageError(
                    f"{first}: its tensors are not those of this run's method and rank (no {name} of "
                    f"{tuple(tensor.shape)}); leave out --peft, --rank and their like, or copy the run's own file back"
                )
    for path in others:
        with safe_open(path, framework="pt") as file:
            strange = sorted(file.keys() - known.keys())
        if strange:
            raise UsageError(f"{path}: of another run (step 0 has no {strange[0]}); copy the run's own file back")


def _check_base(first: Path, name: str, weight: Tensor, config: RunConfig) -> None:
    """Refuse a base model whose matrix is not the one that the run began with."""
    from safetensors import safe_open

    from sorsa.adapters.fingerprint import probe

    with safe_open(first, framework="pt") as file:
        known = PROBE + name in file.keys()  # noqa: SIM118  safe_open has no iterator
        before = file.get_tensor(PROBE + name) if known else None
    now = probe(weight)
    same = before is not None and before.shape == now.shape
    if not same or not (before - now).abs().max() <= _SAME_BASE * before.abs().max():  # so that NaN is another one
        raise UsageError(
            f"model {config.model}: its {name} is not the one that run {config.name!r} was trained on ({first}); give "
            "that model with --model"
        )
