"""VeRA (arXiv 2310.11454) as PEFT implements it: one pair of frozen random matrices for all layers, trained scales.

Its rank counts columns of the shared matrices, so it is chosen far above a LoRA's; a matrix trains rank + out numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.methods import Method

if TYPE_CHECKING:
    import peft

    from sorsa.config import RunConfig


def peft_config(config: RunConfig, steps: int | None) -> peft.VeraConfig:
    """Return PEFT's VeRA configuration; the random matrices come from the run's seed and are saved with the adapter."""
    import peft

    return peft.VeraConfig(
        r=config.rank,
        vera_dropout=config.dropout,
        target_modules=config.target_modules,
        projection_prng_key=config.seed,
        task_type="CAUSAL_LM",
    )


METHOD = Method(
    settings=frozenset({"target_modules", "rank", "dropout"}), peft_config=peft_config, rank_within_matrix=False
)
