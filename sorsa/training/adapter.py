"""Choosing the matrices to adapt (as the paper: every linear layer but the embeddings and lm_head) and adapting them.

PEFT would find a wrong name or rank only while it decomposes, minutes into a 7B model. Here both are checked first.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from torch import nn

from sorsa.errors import UsageError, did_you_mean
from sorsa.methods import build_peft_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sorsa.config import RunConfig

logger = logging.getLogger(__name__)


def adapt(model: PreTrainedModel, config: RunConfig) -> PeftModel:
    """Wrap `model` with the run's adapter; only the adapter's parameters are trainable.

    Args:
        model: The base model in FP32.
        config: The run's settings.

    Raises:
        UsageError: No module matches, a module is not linear, or a rank is above a matrix's smaller side.
    """
    check_adapter(model, config)
    adapted = get_peft_model(model, build_peft_config(config))
    trainable, total = adapted.get_nb_trainable_parameters()
    matrices = len(adapted.base_model.targeted_module_names)
    logger.info("%s adapts %d matrices: %d of %d parameters are trainable", config.peft, matrices, trainable, total)
    return adapted


def check_adapter(model: PreTrainedModel, config: RunConfig) -> None:
    """Refuse an adapter that does not fit the model, from its modules' names and shapes alone.

    Args:
        model: The base model; its weights may be on the meta device.
        config: The run's settings.

    Raises:
        UsageError: No module matches, a module is not linear, or a rank is above a matrix's smaller side.
    """
    peft_config = build_peft_config(config)
    check_ranks(targeted_modules(model, peft_config), peft_config)


def targeted_modules(model: PreTrainedModel, peft_config: PeftConfig) -> dict[str, nn.Module]:
    """Return the modules that `peft_config` adapts, by name.

    Args:
        model: The base model, not yet adapted.
        peft_config: `target_modules` (`all-linear`, a regular expression, or names) less `exclude_modules`.

    Raises:
        UsageError: Nothing matches (names some linear layers that exist), or a match is not a linear layer.
    """
    head = model.get_output_embeddings()
    linear = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    wanted = copy.copy(peft_config)
    if wanted.target_modules == "all-linear":
        wanted.target_modules = set(linear)
    targets = {n: m for n, m in model.named_modules() if n and check_target_module_exists(wanted, n)}
    if not targets:
        names = sorted({name.rsplit(".", 1)[-1] for name in linear})
        without = f" without exclude_modules = {_shown(wanted.exclude_modules)}" if wanted.exclude_modules else ""
        raise UsageError(
            f"target_modules = {_shown(peft_config.target_modules)}{without}: matches no module of "
            f"{type(model).__name__}; its linear layers are called {', '.join(names[:8])}: use some of these names, "
            "or all-linear"
        )
    _check_every_name(model, peft_config)
    for name, module in targets.items():
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
        names = getattr(peft_config, field)
        for name in sorted(names) if isinstance(names, (set, list)) else []:
            if not any(module.endswith(f".{name}") for module in modules):
                last = {module.rsplit(".", 1)[-1] for module in modules} - {""}
                raise UsageError(f"{field} = {name!r}: no module of that name.{did_you_mean(name, last)}")


def check_ranks(targets: dict[str, nn.Module], peft_config: PeftConfig) -> None:
    """Refuse ranks above a matrix's smaller side: it has no more singular triplets than that.

    Args:
        targets: The matrices to adapt, `weight (out, in)`, by name.
        peft_config: `r`, and `rank_pattern` for modules with another rank.

    Raises:
        UsageError: Names the narrowest matrix that its rank does not fit, and the largest rank possible.
    """
    pattern = peft_config.rank_pattern or {}
    wrong = []
    for name, module in targets.items():
        rank = pattern.get(get_pattern_key(pattern.keys(), name), peft_config.r)
        side = min(module.weight.shape)
        if rank > side:
            wrong.append((side, name, rank))
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
