"""AdaLoRA (arXiv 2303.10512) as PEFT implements it: `B diag(E) A` whose least important triplets are set to zero.

The rank is cut from `init_rank` (r_init) to an average of `rank` (r_target) between step `t_init` and step
T - `t_final`; then it stays. The losses reported contain AdaLoRA's own orthonormality
regularizer, which PEFT adds to the model's: several nats at first. `alpha` is divided by `init_rank`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sorsa.errors import UsageError
from sorsa.methods import MODULE_SETTINGS, Method

if TYPE_CHECKING:
    import peft
    from transformers import TrainerCallback

    from sorsa.config import RunConfig

REGULARIZER_WEIGHT = 0.5  # PEFT's default


def peft_config(config: RunConfig, steps: int | None) -> peft.AdaLoraConfig:
    """Return PEFT's AdaLoRA configuration.

    Args:
        config: The run's settings.
        steps: Optimizer steps T; None stands for just enough of them.

    Raises:
        UsageError: `init_rank` is below `rank`, or the schedule leaves no step between `t_init` and T - `t_final`.
    """
    import peft

    if steps is not None and config.t_init + config.t_final >= steps:
        raise UsageError(
            f"t_init = {config.t_init}, t_final = {config.t_final}: their sum must be below the {steps} optimizer "
            "steps of this run, because the ranks are cut in between; lower them, or train longer"
        )
    first_rank = config.init_rank or config.rank
    if first_rank < config.rank:
        raise UsageError(
            f"init_rank = {first_rank}: below rank = {config.rank}, to which AdaLoRA cuts it; give it at least that"
        )
    # The Trainer adds up the losses of the micro-batches and processes of a step, each already divided by the tokens
    # of all; PEFT's regularizer is added to every one of them and must count once.
    losses_per_step = config.accum_steps * int(os.environ.get("WORLD_SIZE", "1"))
    return peft.AdaLoraConfig(
        target_r=config.rank,
        init_r=first_rank,
        tinit=config.t_init,
        tfinal=config.t_final,
        beta1=config.beta1,
        beta2=config.beta2,
        total_step=steps or config.t_init + config.t_final + 1,
        orth_reg_weight=REGULARIZER_WEIGHT / losses_per_step,
        lora_alpha=first_rank if config.alpha is None else config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        exclude_modules=config.exclude_modules,
        task_type="CAUSAL_LM",
    )


def callbacks(config: RunConfig) -> list[TrainerCallback]:
    """Return what updates the importance scores and cuts the ranks after each optimizer step."""
    from sorsa.training.rank_allocation import RankAllocation

    return [RankAllocation()]


METHOD = Method(
    settings=MODULE_SETTINGS | {"rank", "alpha", "dropout", "init_rank", "t_init", "t_final", "beta1", "beta2"},
    peft_config=peft_config,
    callbacks=callbacks,
    extra_copies=3,  # of PEFT's allocator: importance, and its two moving averages
)
