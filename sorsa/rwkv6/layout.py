"""What a checkpoint of RWKV6 holds: both namings, the sizes that its shapes tell, and what is wrong with others.

BlinkDL's .pth   emb.weight        blocks.0.ln0.weight          blocks.i.att.key.weight              head.weight
Hugging Face's   rwkv.embeddings.  rwkv.blocks.0.pre_ln.weight  rwkv.blocks.i.attention.key.weight   head.weight
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch

from sorsa.errors import UsageError
from sorsa.rwkv6.configuration import Rwkv6Config
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM

Shape = tuple[int, ...]
_PARTS = {"emb": "embeddings", "ln0": "pre_ln", "att": "attention", "ffn": "feed_forward"}  # BlinkDL to Hugging Face
_PARTS_BACK = {theirs: ours for ours, theirs in _PARTS.items()}


def hf_name(name: str) -> str:
    """Return the Hugging Face name of a tensor with BlinkDL's name."""
    new = ".".join(_PARTS.get(part, part) for part in name.split("."))
    return new if new.startswith("head.") else f"rwkv.{new}"


def pth_name(name: str) -> str:
    """Return BlinkDL's name of a tensor with a Hugging Face name."""
    return ".".join(_PARTS_BACK.get(part, part) for part in name.removeprefix("rwkv.").split("."))


def infer_config(shapes: Mapping[str, Shape], source: str) -> Rwkv6Config:
    """Read the sizes of a model off the shapes of its tensors, and check that exactly its tensors are there.

    Args:
        shapes: Hugging Face name to shape. `time_decay` counts as (1, 1, C) when it is (H, N).
        source: Where they come from, for messages.

    Raises:
        UsageError: Another version of RWKV, no RWKV at all, a tensor that is missing, superfluous or of a wrong shape.
    """
    _check_version(shapes, source)
    blocks = {int(n.split(".")[2]) for n in shapes if n.startswith("rwkv.blocks.") and n.split(".")[2].isdigit()}
    first = "rwkv.blocks.0."

    def shape(name: str, dimensions: int) -> Shape:
        if name not in shapes:
            raise UsageError(f"checkpoint {source}: {pth_name(name)} is missing; download or convert it again")
        if len(shapes[name]) != dimensions:
            raise UsageError(f"checkpoint {source}: {pth_name(name)} has shape {shapes[name]}, not {dimensions} sides")
        return shapes[name]

    vocabulary, width = shape("rwkv.embeddings.weight", 2)
    config = Rwkv6Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shape(first + "feed_forward.key.weight", 2)[0],
        num_hidden_layers=max(blocks) + 1,
        head_size=shape(first + "attention.time_faaaa", 2)[1],
        mix_rank=shape(first + "attention.time_maa_w2", 3)[1],
        decay_rank=shape(first + "attention.time_decay_w1", 2)[1],
    )
    _check_shapes(shapes, expected_shapes(config), source)
    return config


def check_tensors(shapes: Mapping[str, Shape], config: Rwkv6Config, source: str) -> None:
    """Check that the tensors of a checkpoint are exactly those of a model of known sizes.

    Args:
        shapes: Hugging Face name to shape.
        config: The sizes.
        source: Where the tensors come from, for messages.

    Raises:
        UsageError: Another version of RWKV, a tensor that is missing, superfluous or of a wrong shape.
    """
    _check_version(shapes, source)
    _check_shapes(shapes, expected_shapes(config), source)


def expected_shapes(config: Rwkv6Config) -> dict[str, Shape]:
    """Return Hugging Face name to shape of every tensor of a model, in the order of its modules."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Rwkv6ForCausalLM(config).state_dict().items()}


def _check_shapes(shapes: Mapping[str, Shape], expected: Mapping[str, Shape], source: str) -> None:
    """Raise UsageError for the first tensor that is missing, superfluous or of another shape."""
    for name, shape in expected.items():
        if name not in shapes:
            missing = sum(n not in shapes for n in expected)
            raise UsageError(
                f"checkpoint {source}: {missing} of {len(expected)} tensors are missing, the first is "
                f"{pth_name(name)}; download or convert it again"
            )
        folded = name.endswith("time_decay") and len(shapes[name]) == 2 and math.prod(shapes[name]) == shape[-1]
        if shapes[name] != shape and not folded:
            raise UsageError(f"checkpoint {source}: {pth_name(name)} has shape {shapes[name]}, expected {shape}")
    if extra := [name for name in shapes if name not in expected]:
        raise UsageError(
            f"checkpoint {source}: {len(extra)} tensors do not belong to an RWKV6 model, the first is "
            f"{pth_name(extra[0])}; merge adapters and remove tuned states first"
        )


def _check_version(names: Collection[str], source: str) -> None:
    """Raise UsageError unless the names are those of x060, with the version that they are of."""
    kinds = {name.rsplit(".", 1)[-1] for name in names}
    if "time_maa_w1" in kinds:
        return
    versions = {
        "r_k": "x070 (RWKV7, Goose)",
        "time_mix_g": "x052 (RWKV5.2, Eagle)",
        "time_faaaa": "x051 (RWKV5)",
        "time_first": "RWKV4",
    }
    version = next((version for kind, version in versions.items() if kind in kinds), None)
    if version is None:
        raise UsageError(f"checkpoint {source}: not an RWKV model; give an RWKV6 (x060) checkpoint")
    raise UsageError(f"checkpoint {source}: {version}; only RWKV6 (x060, Finch) is supported")
