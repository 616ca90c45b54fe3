"""The orthonormal regularizer (Definition 4.1) as a closed-form gradient, added once per optimizer step (Eq. 3).

Two forms and two strengths exist, because paper and released code differ (README, "Where paper and code differ"):

    form        value                                                       gradient for U (likewise for V)
    squared     sum over matrices of ||U^T U - I||_F^2 + ||V^T V - I||_F^2   4 U (U^T U - I)
    frobenius   mean over the 2N factors of ||U^T U - I||_F                  2 U (U^T U - I) / ||U^T U - I||_F / 2N

    scaling     weight of that gradient beside the training loss's
    paper       gamma / eta_d                       (Eq. 3; eta_d is the scheduler's maximum learning rate)
    as_run      gamma / (eta_d * 64)                what the runs behind Table 1 really had, see RELEASE_ACCUMULATION

The gradient is added after clipping and right before the optimizer's step, where the released code has it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sorsa.adapters.layer import SorsaLinear
from sorsa.adapters.precision import full_fp32

Form = Literal["frobenius", "squared"]
Scaling = Literal["as_run", "paper"]

# The release trained with 64 accumulation steps, and accelerate 0.34 divided whatever went through its backward by
# them: the regularizer too, although it was called once per optimizer step.
RELEASE_ACCUMULATION = 64


class Orthonormality(NamedTuple):
    """State of the factors at one step, as scalar tensors: the regularizer's `value`, and `error`, the mean over all
    factors of `||U^T U - I||_F`."""

    value: Tensor
    error: Tensor


def gradient_weight(gamma: float, max_lr: float, scaling: Scaling) -> float:
    """Return the factor of the regularizer's gradient in Eq. (3).

    Args:
        gamma: Regularization strength, 0 or more (the paper's runs: 4e-4).
        max_lr: `eta_d`, the scheduler's maximum learning rate.
        scaling: `paper` for gamma / eta_d, `as_run` for gamma / (eta_d * 64).

    Raises:
        ValueError: An argument is out of its range.
    """
    if gamma < 0 or max_lr <= 0:
        raise ValueError(f"gamma must be at least 0 and the maximum learning rate positive, got {gamma} and {max_lr}")
    if scaling not in ("as_run", "paper"):
        raise ValueError(f"scaling must be 'as_run' or 'paper', got {scaling!r}")
    return gamma / max_lr / (RELEASE_ACCUMULATION if scaling == "as_run" else 1)


@torch.no_grad()
def add_regularizer_gradient(model: nn.Module, weight: float, form: Form = "frobenius") -> Orthonormality:
    """Add `weight * gradient` of the regularizer to the `.grad` of every trainable SORSA factor.

    Call it once per optimizer step, after gradient clipping and before `optimizer.step()`; `gradient_weight` gives
    the weight. Works in any loop, without an autograd graph.

    Args:
        model: A model with SORSA layers.
        weight: Factor of the gradient; 0 only measures.
        form: `frobenius` (released code) or `squared` (Definition 4.1).

    Returns:
        The regularizer's value and the orthonormality error before the step.

    Raises:
        ValueError: The form is unknown, or the model has no trainable SORSA factor.
    """
    if form not in ("frobenius", "squared"):
        raise ValueError(f"form must be 'frobenius' or 'squared', got {form!r}")
    groups = _factors_by_shape(model)
    count = sum(len(factors) for factors, _ in groups)
    if count == 0:
        raise ValueError("the model has no trainable SORSA factors to regularize")
    norms = []
    for factors, is_right in groups:
        with full_fp32(factors[0].device.type):
            X = torch.stack(factors)  # (k, rows, r), or (k, r, columns) for right factors
            X = X.to(torch.promote_types(X.dtype, torch.float32))
            gap = X @ X.mT if is_right else X.mT @ X  # (k, r, r)
            gap.diagonal(dim1=1, dim2=2).sub_(1)  # U^T U - I
            norm = torch.linalg.matrix_norm(gap)  # (k,)
            norms.append(norm)
            if weight:
                # the norm has no gradient at 0, where the regularizer is minimal: nothing is added there
                slope = torch.full_like(norm, 4) if form == "squared" else torch.where(norm > 0, 2 / count / norm, 0)
                gap *= (weight * slope)[:, None, None]
                _add_to_gradients(factors, gap @ X if is_right else X @ gap)
    norm = torch.cat([n.to(norms[0].device) for n in norms])
    return Orthonormality(norm.mean() if form == "frobenius" else norm.square().sum(), norm.mean())


def regularizer_value(model: nn.Module, form: Form = "frobenius") -> Tensor:
    """Return the regularizer's value, a scalar, without touching any gradient; arguments as above."""
    return add_regularizer_gradient(model, 0.0, form).value


def orthonormality_error(model: nn.Module) -> Tensor:
    """Return the mean over all trainable factors of `||U^T U - I||_F`, a scalar; 0 for orthonormal columns."""
    return add_regularizer_gradient(model, 0.0).error


class OrthonormalCallback(TrainerCallback):
    """Regularize SORSA factors in any Hugging Face `Trainer` (TRL's too): `callbacks=[OrthonormalCallback(gamma)]`.

    Eq. (3): once per optimizer step, after clipping and right before the step, whatever the gradient accumulation.
    Adds `regularizer` and `orthonormality_error` of the last step to the Trainer's logs.
    """

    def __init__(self, gamma: float = 4e-4, form: Form = "frobenius", scaling: Scaling = "as_run") -> None:
        """Make the callback.

        Args:
            gamma: Regularization strength, 0 or more; 0 only logs. The paper's runs: 4e-4.
            form: `frobenius` (released code, behind Table 1) or `squared` (Definition 4.1).
            scaling: `as_run` (as the authors' runs had it) or `paper` (Eq. 3 as written).

        Raises:
            ValueError: An argument is unknown or out of its range.
        """
        gradient_weight(gamma, 1.0, scaling)  # checks both now rather than at the first step
        if form not in ("frobenius", "squared"):
            raise ValueError(f"form must be 'frobenius' or 'squared', got {form!r}")
        self.gamma, self.form, self.scaling = gamma, form, scaling
        self._last: Orthonormality | None = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the gradient. `args.learning_rate` is the scheduler's maximum, eta_d.

        The Trainer has unscaled FP16 gradients by now: it needs their norm, for clipping or for its logs.
        """
        weight = gradient_weight(self.gamma, args.learning_rate, self.scaling)
        self._last = add_regularizer_gradient(kwargs["model"], weight, self.form)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Put the last step's values into the logged dictionary and the Trainer's history."""
        logs = kwargs.get("logs")
        if self._last is None or not logs or "loss" not in logs:
            return
        values = {"regularizer": self._last.value.item(), "orthonormality_error": self._last.error.item()}
        logs.update(values)
        if state.log_history:
            state.log_history[-1].update(values)


def _factors_by_shape(model: nn.Module) -> list[tuple[list[nn.Parameter], bool]]:
    """Group the trainable factors of active adapters by side, shape and device; the flag marks right factors (Vt)."""
    groups: dict[tuple[Any, ...], list[nn.Parameter]] = defaultdict(list)
    for layer in model.modules():
        if not isinstance(layer, SorsaLinear):
            continue
        for name in layer.active_adapters:
            for factors, is_right in ((layer.sorsa_U, False), (layer.sorsa_Vt, True)):
                if name in factors and (factor := factors[name]).requires_grad:
                    groups[is_right, factor.shape, factor.device, factor.dtype].append(factor)
    return [(factors, key[0]) for key, factors in groups.items()]


def _add_to_gradients(factors: list[nn.Parameter], gradients: Tensor) -> None:
    for factor, gradient in zip(factors, gradients.unbind(), strict=True):
        if factor.grad is None:
            factor.grad = gradient.to(factor.dtype)
        else:
            factor.grad.add_(gradient)
