"""From a run's configuration to a SORSA adapter's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sorsa.adapters.config import SorsaConfig

if TYPE_CHECKING:
    from sorsa.config import RunConfig


def sorsa_config(config: RunConfig) -> SorsaConfig:
    """Return the adapter configuration of a run; raises ValueError for values SorsaConfig refuses."""
    return SorsaConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        alpha=config.alpha,
        dropout=config.dropout,
        target_modules=config.target_modules,
        exclude_modules=config.exclude_modules,
        rank_pattern=dict(config.rank_pattern),
        decomposition=config.decomposition,
        svd_cache=config.svd_cache_path,
    )
