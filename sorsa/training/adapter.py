"""Choosing the matrices to adapt (as the paper: every linear layer but the embeddings and lm_head) and adapting them.

PEFT would find a wrong name or rank only while it decomposes, minutes into a 7B model. Here both are checked first.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from peft import LoraConfig, PeftConfig, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import nn

from sorsa.adapters.precision import full_fp32
from sorsa.errors import UsageError, did_you_mean
from sorsa.methods import build_peft_config, find_method
from sorsa.training import moved_base

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sorsa.config import RunConfig

logger = logging.getLogger(__name__)


def adapt(model: PreTrainedModel, config: RunConfig, steps: int | None = None, start: Path | None = None) -> nn.Module:
    """Prepare `model` for training: with the run's adapter around it, or its own weights to be trained.

    Args:
        model: The base model in FP32.
        config: The run's settings.
        steps: Optimizer steps T, which AdaLoRA's schedule depends on; None where there is no training.
        start: For a resumed run of PiSSA or OLoRA: what `moved_base.keep_start` wrote.

    Returns:
        The model to train; only what the method trains requires gradients.

    Raises:
        UsageError: No module matches, a module is not linear, a rank is above a matrix's smaller side, or AdaLoRA's
            schedule is longer than the run.
    """
    check_adapter(model, config)
    if find_method(config.peft).peft_config is None:
        names = own_weights(model, config)
        for name, tensor in model.named_parameters():
            tensor.requires_grad_(name in names)
        adapted = model
    elif start is not None:
        adapted = moved_base.from_start(model, start)
    else:
        peft_config = build_peft_config(config, steps)
        with full_fp32(model.device.type):  # TF32 in PiSSA's residual would be a lasting error
            adapted = get_peft_model(model, peft_config)
    trainable, total = parameter_counts(adapted)
    logger.info("%s: %d of %d parameters are trainable", config.peft, trainable, total)
    return adapted


def parameter_counts(model: nn.Module) -> tuple[int, int]:
    """Return how many parameters are trainable, and how many there are; tied ones count once."""
    sizes = [(tensor.numel(), tensor.requires_grad) for tensor in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def check_adapter(model: PreTrainedModel, config: RunConfig) -> None:
    """Refuse a method that does not fit the model, from its modules' names and shapes alone.

    Args:
        model: The base model; its weights may be on the meta device.
        config: The run's settings.

    Raises:
        UsageError: No module matches, a module is not linear, or a rank is above a matrix's smaller side.
    """
    method = find_method(config.peft)
    if method.peft_config is None:
        own_weights(model, config)
        return
    targets = targeted_modules(model, build_peft_config(config))
    if method.rank_within_matrix:
        check_ranks(targets, max(config.rank, config.init_rank or 0), config.rank_pattern)


def own_weights(model: PreTrainedModel, config: RunConfig) -> set[str]:
    """Return the names of the parameters that a method without adapter trains: `full` all, `partial` the modules'.

    Raises:
        UsageError: No module matches, or a module is not linear.
    """
    if config.peft == "full":
        return {name for name, _ in model.named_parameters()}
    chosen = LoraConfig(target_modules=config.target_modules, exclude_modules=config.exclude_modules)
    modules = targeted_modules(model, chosen)
    return {f"{name}.{own}" for name, module in modules.items() for own, _ in module.named_parameters()}


def targeted_modules(model: PreTrainedModel, peft_config: PeftConfig) -> dict[str, nn.Module]:
    """Return the modules that `peft_config` adapts, by name.

    Args:
        model: The base model, not yet adapted.
        peft_config: `target_modules` (`all-linear`, a regular expression, or names) less `exclude_modules`.

    Raises:
        UsageError: Nothing matches (names some linear layers that exist), or a match is not a linear layer or tied.
    """
    head = model.get_output_embeddings()
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    wanted = copy.copy(peft_config)
    if wanted.target_modules == "all-linear":
        wanted.target_modules = set(linear)
    targets = {n: m for n, m in model.named_modules() if n and check_target_module_exists(wanted, n)}
    if not targets:
        names = sorted({name.rsplit(".", 1)[-1] for name in linear})
        excluded = getattr(wanted, "exclude_modules", None)
        without = f" without exclude_modules = {_shown(excluded)}" if excluded else ""
        raise UsageError(
            f"target_modules = {_shown(peft_config.target_modules)}{without}: matches no module of "
            f"{type(model).__name__}; its linear layers are called {', '.join(names[:8])}: use some of these names, "
            "or all-linear"
        )
    _check_every_name(model, peft_config)
    tied = head if getattr(model.config, "tie_word_embeddings", False) else None
    for name, module in targets.items():
        if module is tied:
            raise UsageError(
                f"target_modules = {_shown(peft_config.target_modules)}: {name} shares its weight with the embeddings "
                "in this model, which would change with it; leave it out"
            )
        if not isinstance(module, nn.Linear):
            raise UsageError(
                f"target_modules = {_shown(peft_config.target_modules)}: {name} is a {type(module).__name__}, and only "
                "linear layers can be adapted; leave it out, or exclude it with exclude_modules"
            )
    return targets


def _check_every_name(model: PreTrainedModel, peft_config: PeftConfig) -> None:
    """Refuse a listed name that no module has: a misspelt one would silently leave its matrices out."""
    modules = [f".{name}" for name, _ in model.named_modules()]
    for field in ("target_modules", "exclude_modules"):
        names = getattr(peft_config, field, None)  # VeRA's has no exclude_modules
        for name in sorted(names) if isinstance(names, (set, list)) else []:
            if not any(module.endswith(f".{name}") for module in modules):
                last = {module.rsplit(".", 1)[-1] for module in modules} - {""}
                raise UsageError(f"{field} = {name!r}: no module of that name.{did_you_mean(name, last)}")


def check_ranks(targets: dict[str, nn.Module], rank: int, pattern: dict[str, int]) -> None:
    """Refuse ranks above a matrix's smaller side: it has no more singular triplets than that.

    Args:
        targets: The matrices to adapt, `weight (out, in)`, by name.
        rank: The rank of most of them.
        pattern: Other ranks, by module name or regular expression.

    Raises:
        UsageError: Names the narrowest matrix that its rank does not fit, and the largest rank possible; or a pattern
            that fits no matrix.
    """
    for key in pattern:
        if not any(get_pattern_key([key], name) == key for name in targets):
            last = {name.rsplit(".", 1)[-1] for name in targets}
            raise UsageError(
                f"rank_pattern = {key!r}: none of the matrices to adapt is called so.{did_you_mean(key, last)}"
            )
    wrong = []
    for name, module in targets.items():
        own_rank = pattern.get(get_pattern_key(pattern.keys(), name), rank)
        side = min(module.weight.shape)
        if own_rank > side:
            wrong.append((side, name, own_rank))
    if wrong:
        side, name, rank = min(wrong)
        out_features, in_features = targets[name].weight.shape
        raise UsageError(
            f"rank = {rank}: above the smaller side of {name} ({out_features} x {in_features}), whose largest possible "
            f"rank is {side}; lower --rank to {side}, or give that module its own rank with rank_pattern"
        )


def _shown(names: str | Iterable[str]) -> str:
    """Return module names as text for a message: sorted, because PEFT keeps them in a set."""
    return repr(names) if isinstance(names, str) else repr(sorted(names))
