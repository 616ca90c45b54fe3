"""What SORSA's and OSoRA's layers share: `W = Wr + U diag(S) Vt` around an untouched `nn.Linear`.

The base weight `W0` is never written to. The layer keeps the factors it started from (`U0`, `S0`, `Vt0`), which define
the frozen residual `Wr = W0 - U0 diag(S0) Vt0`; the residual is a working copy in the compute type, made from them at
the first forward pass and remade when they, the type or the device change. So disabling or unloading the adapter is
the base model bit for bit, other adapters on the same base stay valid, and a saved adapter reloads without an SVD.

What is trained, and how `U`, `S` and `Vt` come from it, is each method's own: `layer.py` and `osora_layer.py`.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn

from sorsa.adapters.config import ResidualConfig
from sorsa.adapters.decomposition import Factors, decompose
from sorsa.adapters.fingerprint import PROBE_SIZE, probe
from sorsa.adapters.functional import residual_linear
from sorsa.adapters.precision import full_fp32

_INITIAL = ("U0", "S0", "Vt0")


class ResidualLinear(nn.Module, BaseTunerLayer):
    """An `nn.Linear` of shape (m, n) with adapters, one set of tensors per adapter name, all FP32.

    Every method stores `U0` (m, r), `S0` (r,), `Vt0` (r, n), the factors that the adapter started from, and `probe`, a
    sample of `W0` that tells a wrong base model; beside them its `trained` tensors. `prefix` begins all their names.
    """

    prefix: ClassVar[str]
    trained: ClassVar[tuple[str, ...]]
    difference_rank: ClassVar[int]  # the rank of W - W0, in units of r
    _attributes: ClassVar[dict[str, str]]  # what defines an adapter: names of the equations to names of the attributes

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Tell PEFT the names of a method's tensors: the trained ones, and what else belongs to an adapter."""
        super().__init_subclass__(**kwargs)
        cls.adapter_layer_names = tuple(cls.prefix + name for name in cls.trained)
        others = tuple(cls.prefix + name for name in ("dropout", *_INITIAL, "probe"))
        cls.other_param_names = ("r", "scaling", *others)
        cls._attributes = {name: cls.prefix + name for name in (*cls.trained, *_INITIAL)}

    def __init__(self, base_layer: nn.Module) -> None:
        """Wrap a linear layer, or another tuner's layer around one; adapters come with `update_layer`."""
        super().__init__()
        self.base_layer = base_layer
        linear = self.get_base_layer()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.r: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self.frozen_peft_weight_names: dict[str, tuple[str, ...]] = {}  # PEFT never unfreezes what is named here
        setattr(self, f"{self.prefix}dropout", nn.ModuleDict())
        for name in self.trained:
            setattr(self, self.prefix + name, nn.ParameterDict())
        for name in (*_INITIAL, "probe"):
            setattr(self, self.prefix + name, BufferDict(persistent=True))
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._without_factors: set[str] = set()  # adapters created for loading, whose tensors have not come yet
        self._weight_before_merge: list[nn.Parameter] | None = None  # in a list: not a parameter of this module
        self._residual_cache: tuple[tuple[Any, ...], Tensor] | None = None

    # -- a method's own equation --------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def start(factors: Factors) -> dict[str, Tensor]:
        """Return the values at step 0 of the `trained` tensors, for the top singular triplets of the weight."""

    @staticmethod
    @abstractmethod
    def principal(tensors: Mapping[str, Tensor]) -> Factors:
        """Return the factors `U`, `S`, `Vt` of the present principal part, for one adapter's tensors by name."""

    @staticmethod
    @abstractmethod
    def difference(tensors: Mapping[str, Tensor], scaling: float) -> tuple[Tensor, Tensor]:
        """Return `B` (m, k) and `A` (k, n) with `B A = W - W0`, exactly 0 at step 0; k = `difference_rank` r.

        The difference is taken between factors, not between products, so that rounding errors are relative to the
        change and not to the weight. `tensors` are one adapter's by name, `scaling` is alpha / r, or 1.
        """

    # -- creating an adapter ------------------------------------------------------------------------------------------

    def update_layer(self, adapter_name: str, r: int, config: ResidualConfig) -> None:
        """Allocate the tensors of one adapter; `initialize` fills them.

        Raises:
            ValueError: The rank exceeds the smaller side of the weight.
        """
        m, n = self.out_features, self.in_features
        if r > min(m, n):
            raise ValueError(f"rank {r} exceeds the smaller side of a weight ({m}, {n}): at most {min(m, n)}")
        self.r[adapter_name] = r
        self.scaling[adapter_name] = 1.0 if config.alpha is None else config.alpha / r
        self._stored("dropout")[adapter_name] = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self._store(adapter_name, Factors(torch.zeros(m, r), torch.zeros(r), torch.zeros(r, n)))
        self._stored("probe")[adapter_name] = torch.zeros(min(m * n, PROBE_SIZE))
        self._without_factors.add(adapter_name)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    @torch.no_grad()
    def initialize(self, adapter_name: str, config: ResidualConfig) -> None:
        """Fill one adapter with the top singular triplets of the base weight (section 4)."""
        weight = self.get_base_layer().weight
        self._store(adapter_name, decompose(weight, self.r[adapter_name], config.decomposition, config.svd_cache))
        self._stored("probe")[adapter_name] = probe(weight)
        self._without_factors.discard(adapter_name)

    def _store(self, adapter_name: str, factors: Factors) -> None:
        for name, value in factors._asdict().items():
            self._stored(f"{name}0")[adapter_name] = value
        for name, value in self.start(factors).items():
            parameters = self._stored(name)
            trained = adapter_name not in parameters or parameters[adapter_name].requires_grad
            parameters[adapter_name] = nn.Parameter(value.clone(), requires_grad=trained)

    def _stored(self, name: str) -> Any:
        """Return the dictionary from adapter names to their tensors (or dropout modules) of one kind."""
        return getattr(self, self.prefix + name)

    def _tensors(self, adapter_name: str) -> dict[str, Tensor]:
        """Return what defines one adapter, by name without prefix: the trained tensors and the initial factors."""
        return {name: getattr(self, attribute)[adapter_name] for name, attribute in self._attributes.items()}

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        # PEFT's version also casts to the base's type; rounding U and U0 to BF16 would change the function.
        device = device or self.get_base_layer().weight.device
        for name in self.stored_names():
            tensors = getattr(self, name)
            if adapter_name in tensors and tensors[adapter_name].device.type != "meta" and device.type != "meta":
                tensors[adapter_name] = tensors[adapter_name].to(device)

    @classmethod
    def stored_names(cls) -> tuple[str, ...]:
        """Return the names of all tensors that a saved adapter has for each of its layers."""
        return (*cls._attributes.values(), f"{cls.prefix}probe")

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        self._without_factors -= {a for a in self._without_factors if f"{prefix}{self.prefix}U0.{a}" in state_dict}
        super()._load_from_state_dict(state_dict, prefix, *args)

    # -- weights ------------------------------------------------------------------------------------------------------

    def get_delta_weight(self, adapter_name: str) -> Tensor:
        """Return `W - W0` of one adapter: (m, n), FP32, exactly 0 at step 0."""
        tensors = {name: tensor.detach().float() for name, tensor in self._tensors(adapter_name).items()}
        B, A = self.difference(tensors, self.scaling[adapter_name])
        with full_fp32(A.device.type):
            return B @ A

    def _residual(self, adapters: dict[str, dict[str, Tensor]], dtype: torch.dtype) -> Tensor:
        """Return the working copy of `Wr` (m, n) in the compute type, remade when something it depends on has changed.

        A change is seen by the tensors' version counters, addresses, types and devices, that is when tensors are
        loaded into, replaced, cast or moved. Writes through `.data` of the frozen base weight leave no such trace.
        """
        weight = self.get_base_layer().weight
        initial = [tensors[name] for tensors in adapters.values() for name in _INITIAL]
        key = (tuple(adapters), dtype, *map(_state, (weight, *initial)))
        if self._residual_cache is None or self._residual_cache[0] != key:
            self._residual_cache = None  # free the old copy before making the new one
            self._residual_cache = (key, self._make_residual(adapters, dtype))
        return self._residual_cache[1]

    @torch.no_grad()
    def _make_residual(self, adapters: dict[str, dict[str, Tensor]], dtype: torch.dtype) -> Tensor:
        """Compute `Wr = W0 - scale U0 diag(S0) Vt0`; each of several adapters takes away its own part."""
        weight = self.get_base_layer().weight
        # inference_mode(False): an inference tensor could not be used when training goes on after a generation
        with torch.inference_mode(False), full_fp32(weight.device.type):
            residual = weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True)
            for a, tensors in adapters.items():
                U0, S0, Vt0 = (tensors[name].to(residual.dtype) for name in _INITIAL)
                residual -= (U0 * (self.scaling[a] * S0)) @ Vt0
            return residual.to(dtype)

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Apply the layer to x (..., n); returns (..., m).

        Raises:
            RuntimeError: An active adapter was created from a saved config but its tensors were never loaded.
        """
        if self.disable_adapters and self.merged:
            self.unmerge()
        adapters = [name for name in self.active_adapters if name in self.r]
        if self.disable_adapters or self.merged or not adapters:
            return self.base_layer(x, *args, **kwargs)
        if missing := self._without_factors.intersection(adapters):
            raise RuntimeError(
                f"adapter {sorted(missing)[0]!r} has no factors: its config was read from a saved adapter, whose "
                "tensors were not loaded. Use PeftModel.from_pretrained, or set config.init_weights = True"
            )
        if self._needs_plain_path(adapters, args, kwargs):
            return self._plain_forward(x, adapters, *args, **kwargs)
        tensors = {a: self._tensors(a) for a in adapters}
        parts = {a: self.principal(tensors[a]) for a in adapters}
        U = _joined([part.U for part in parts.values()], dim=1)
        S = _joined([self.scaling[a] * part.S for a, part in parts.items()], dim=0)
        Vt = _joined([part.Vt for part in parts.values()], dim=0)
        return residual_linear(x, self._residual(tensors, self._compute_dtype(x)), self.bias, U, S, Vt)

    def _compute_dtype(self, x: Tensor) -> torch.dtype:
        if torch.is_autocast_enabled(x.device.type):
            return torch.get_autocast_dtype(x.device.type)
        return self.get_base_layer().weight.dtype

    def _needs_plain_path(self, adapters: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether the base layer must be called itself (subclass, hooks, trained weight) or dropout is at work."""
        base = self.base_layer
        return (
            torch.compiler.is_compiling()
            or type(base) is not nn.Linear
            or base.weight.requires_grad
            or bool(base._forward_hooks or base._forward_pre_hooks or hasattr(base, "_hf_hook") or args or kwargs)
            or (self.training and any(isinstance(self._stored("dropout")[a], nn.Dropout) for a in adapters))
        )

    def _plain_forward(self, x: Tensor, adapters: list[str], *args: Any, **kwargs: Any) -> Tensor:
        """The same with the residual left as a difference: `x W0^T + drop(x) Wp^T - x Wp0^T`."""
        y = self.base_layer(x, *args, **kwargs)
        for a in adapters:
            tensors = self._tensors(a)
            U, S, Vt = self.principal(tensors)
            U0, S0, Vt0 = (tensors[name] for name in _INITIAL)
            x = self._cast_input_dtype(x, U.dtype)
            now = F.linear(F.linear(self._stored("dropout")[a](x), Vt) * (self.scaling[a] * S), U)
            y = y + (now - F.linear(F.linear(x, Vt0) * (self.scaling[a] * S0), U0)).to(y.dtype)
        return y

    # -- merging ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Put `W0 + (W - W0)`, computed in FP32, in the place of W0; `unmerge` restores W0 bit for bit.

        The merged weight is a parameter of its own: an embedding tied to W0 keeps W0.

        Args:
            safe_merge: Check that the merged weight is finite before it is used.
            adapter_names: Adapters to merge; None means the active ones.

        Raises:
            ValueError: `safe_merge` found NaN or infinite elements, or an adapter has no factors.
        """
        names = [name for name in check_adapters_to_merge(self, adapter_names) if name in self.r]
        linear = self.get_base_layer()
        for name in names:
            if name in self._without_factors:
                raise ValueError(f"adapter {name!r} has no factors to merge: load its saved tensors first")
            delta = self.get_delta_weight(name)
            merged = linear.weight.detach().to(torch.promote_types(linear.weight.dtype, delta.dtype)) + delta
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"NaNs detected in the merged weights. The adapter {name} seems to be broken")
            if self._weight_before_merge is None:
                self._weight_before_merge, self._residual_cache = [linear.weight], None
            linear.weight = nn.Parameter(merged.to(linear.weight.dtype), requires_grad=False)
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Give the base layer its untouched weight back."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        linear, (weight,) = self.get_base_layer(), self._weight_before_merge
        weight.data = weight.data.to(linear.weight)  # the model may have been moved or cast meanwhile
        linear.weight, self._weight_before_merge = weight, None
        self.merged_adapters.clear()

    def __repr__(self) -> str:
        """Show as `sorsa.SorsaLinear(...)`, as PEFT's layers do."""
        return f"{self.prefix.rstrip('_')}.{super().__repr__()}"


def _state(tensor: Tensor) -> tuple[Any, ...]:
    """Return what changes when a tensor is written to, replaced, cast or moved; inference tensors count no versions."""
    version = None if tensor.is_inference() else tensor._version
    return tensor.device, tensor.dtype, tensor.data_ptr(), version


def _joined(tensors: list[Tensor], dim: int) -> Tensor:
    """Concatenate the factors of several adapters; those of a single one, the usual case, are not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)
