"""`SorsaConfig` and `OsoraConfig`: everything a user chooses about an adapter, in PEFT's form."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Literal

from peft import PeftConfig
from peft.utils.peft_types import PeftType


@dataclass
class ResidualConfig(PeftConfig):
    """What SORSA's and OSoRA's configurations have in common.

    Args:
        r: Rank: number of singular triplets per adapted matrix, 1 to its smaller side.
        target_modules: Names (or one regular expression) of the linear layers to adapt, or `all-linear`.
        exclude_modules: Names (or one regular expression) of layers to leave alone.
        alpha: Scale of the principal part is alpha / r; None, the paper's choice, means 1.
        dropout: Probability of dropping an input of the principal part, 0 to 1. The paper uses 0.
        rank_pattern: Ranks of single layers by name or regular expression, instead of `r`.
        modules_to_save: Further modules trained in full and saved with the adapter.
        layers_to_transform: Indexes of the decoder layers to adapt; None means all.
        layers_pattern: Name of the list of layers that `layers_to_transform` counts in.
        decomposition: `exact` (full SVD) or `randomized` (subspace iteration; singular values to about 1e-3).
        svd_cache: Folder that keeps decompositions between runs, keyed by the weights' bytes. Not saved.
        init_weights: Whether to decompose when the adapter is created. Saved adapters carry their factors, so
            `save_pretrained` writes False, and loading never runs an SVD.

    Raises:
        ValueError: A value is out of its range.
        TypeError: `r` is not an integer.
    """

    r: int = 8
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    alpha: float | None = None
    dropout: float = 0.0
    rank_pattern: dict[str, int] = field(default_factory=dict)
    modules_to_save: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    decomposition: Literal["exact", "randomized"] = "randomized"
    svd_cache: str | None = None
    init_weights: bool = True

    def __post_init__(self) -> None:
        """Check every value; PEFT calls this when a config is made or read."""
        super().__post_init__()
        for name, rank in {"r": self.r, **self.rank_pattern}.items():
            if not isinstance(rank, int) or isinstance(rank, bool):
                raise TypeError(f"rank {name} must be an integer, got {rank!r}")
            if rank < 1:
                raise ValueError(f"rank {name} must be at least 1, got {rank}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"alpha must be positive or None, got {self.alpha}")
        if self.decomposition not in ("exact", "randomized"):
            raise ValueError(f"decomposition must be 'exact' or 'randomized', got {self.decomposition!r}")
        # PEFT writes JSON with sorted keys, and the first matching pattern counts: the same order before and after
        self.rank_pattern = dict(sorted(self.rank_pattern.items()))
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.exclude_modules, list):
            self.exclude_modules = set(self.exclude_modules)

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """Write `adapter_config.json` for an adapter whose factors are stored beside it.

        Args:
            save_directory: Folder to write to, made if missing.
            **kwargs: Passed on to PEFT.
        """
        saved = copy.copy(self)
        saved.init_weights = False
        saved.svd_cache = None  # a path of this machine
        super(ResidualConfig, saved).save_pretrained(save_directory, **kwargs)


@dataclass
class SorsaConfig(ResidualConfig):
    """Configuration of a SORSA adapter (arXiv 2409.00055, section 4); settings: see `ResidualConfig`."""

    def __post_init__(self) -> None:
        """Name the method and check every value."""
        super().__post_init__()
        self.peft_type = PeftType.SORSA


@dataclass
class OsoraConfig(ResidualConfig):
    """Configuration of an OSoRA adapter (arXiv 2505.14350); further settings: see `ResidualConfig`.

    Args:
        train: Which vectors are trained, the ablation of the OSoRA paper: `s` (the singular values), `o` (one factor
            per output) or `both`. The other one keeps its start value and stays part of the adapter.

    Raises:
        ValueError: A value is out of its range.
        TypeError: `r` is not an integer.
    """

    train: Literal["both", "s", "o"] = "both"

    def __post_init__(self) -> None:
        """Name the method and check every value."""
        super().__post_init__()
        self.peft_type = PeftType.OSORA
        if self.train not in ("both", "s", "o"):
            raise ValueError(f"train must be 'both', 's' or 'o', got {self.train!r}")
