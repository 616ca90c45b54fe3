"""The OSoRA layer (arXiv 2505.14350): `W = Wr + diag(o) U0 diag(s) Vt0`, with only the vectors `o` and `s` trained.

`U0`, `Vt0` are the top r singular vectors of the base weight and stay as they are; `s` (r,) starts as the singular
values and `o` (m,), one factor per output, as ones, so that `W = W0` at step 0: r + m trainable parameters per matrix.
Working copy, forward pass and merging are `residual_layer.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sorsa.adapters.config import OsoraConfig
from sorsa.adapters.decomposition import Factors
from sorsa.adapters.residual_layer import ResidualLinear


class OsoraLinear(ResidualLinear):
    """An `nn.Linear` of shape (m, n) with OSoRA adapters.

    Trainable: `osora_s` (r,) and `osora_o` (m,), or one of them (`OsoraConfig.train`, the paper's ablation).
    """

    prefix = "osora_"
    trained = ("s", "o")
    difference_rank = 1

    def update_layer(self, adapter_name: str, r: int, config: OsoraConfig) -> None:
        """Allocate the tensors of one adapter and freeze the vector that is not to be trained."""
        frozen = {"both": (), "s": ("osora_o",), "o": ("osora_s",)}
        self.frozen_peft_weight_names[adapter_name] = frozen[config.train]
        super().update_layer(adapter_name, r, config)

    @staticmethod
    def start(factors: Factors) -> dict[str, Tensor]:
        """Return the values at step 0: the singular values, and ones."""
        return {"s": factors.S, "o": factors.U.new_ones(len(factors.U))}

    @staticmethod
    def principal(tensors: Mapping[str, Tensor]) -> Factors:
        """Return the principal part; autograd carries the gradient of `diag(o) U0` on to `o`."""
        return Factors(tensors["o"][:, None] * tensors["U0"], tensors["s"], tensors["Vt0"])

    @staticmethod
    def difference(tensors: Mapping[str, Tensor], scaling: float) -> tuple[Tensor, Tensor]:
        """Return `B = U0 * (o s^T - 1 s0^T)` (m, r), elementwise, and `A = scaling Vt0` (r, n): `B A = W - W0`."""
        change = tensors["o"][:, None] * tensors["s"] - tensors["S0"]  # (m, r), exactly 0 at step 0
        return tensors["U0"] * change, scaling * tensors["Vt0"]
