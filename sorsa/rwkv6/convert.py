"""Convert checkpoints of RWKV6 between BlinkDL's `.pth` file and a Hugging Face directory, either way without loss.

Tensors are mapped from the source's file and written from there, page by page: a 7B is never held in memory. Number
types and values stay as they are.
"""

from __future__ import annotations

import importlib.util
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sorsa.errors import UsageError
from sorsa.files import whole_directory, whole_file, write_json
from sorsa.rwkv6.configuration import Rwkv6Config
from sorsa.rwkv6.layout import check_tensors, expected_shapes, hf_name, infer_config, pth_name
from sorsa.rwkv6.tokenizer import VOCABULARY_FILE, Rwkv6Tokenizer
from sorsa.weight_files import weight_files

logger = logging.getLogger(__name__)

WORLD_ROWS = 65536  # embedding rows of the World models
SHARD_BYTES = 5 * 10**9  # as transformers writes them; 4 shards for the 7B in BF16


def convert(source: Path | str, target: Path | str, replace: bool = False) -> None:
    """Convert a `.pth` file to a Hugging Face directory, or such a directory to a `.pth` file.

    Args:
        source: A `.pth` file, beside which the vocabulary file may lie, or a directory with safetensors weights.
        target: The directory, or the file, ending in `.pth`, to write: whole or not at all.
        replace: Whether an existing target may be replaced.

    Raises:
        UsageError: The source is missing, unreadable or not RWKV6; the target exists or is of the wrong kind.
    """
    source, target = Path(source), Path(target)
    if not source.exists():
        raise UsageError(f"checkpoint {source}: no such file or directory")
    if target.exists() and not replace:
        raise UsageError(f"target {target}: exists; choose another name, or replace it with --overwrite")
    if source.is_dir() != (target.suffix == ".pth"):
        raise UsageError(f"target {target}: a .pth file becomes a directory, a directory a file that ends in .pth")
    if target.exists() and target.is_dir() != source.is_file():
        raise UsageError(f"target {target}: is a {'directory' if target.is_dir() else 'file'}; choose another name")
    if target.is_dir() and not (target / "config.json").is_file() and any(target.iterdir()):
        raise UsageError(f"target {target}: is not a model directory, so it is not replaced; choose another name")
    if not source.is_dir() and target.resolve() in source.resolve().parents:
        raise UsageError(f"target {target}: holds {source}, which replacing it would delete; choose another name")
    if source.is_dir():
        directory_to_pth(source, target)
    else:
        pth_to_directory(source, target, replace)


def pth_to_directory(source: Path, target: Path, replace: bool = False, shard_bytes: int = SHARD_BYTES) -> None:
    """Write a `.pth` file as a Hugging Face directory: config, safetensors, and the tokenizer if its file is beside.

    Args:
        source: The file.
        target: The directory to make.
        replace: Whether an existing directory may be replaced.
        shard_bytes: Largest size of one safetensors file, unless a single tensor is larger.

    Raises:
        UsageError: The file cannot be read, or is not RWKV6.
    """
    tensors, config = read_pth(source)
    shapes = expected_shapes(config)
    tensors = {name: tensors[name].reshape(shape) for name, shape in shapes.items()}
    if tensors["head.weight"].data_ptr() == tensors["rwkv.embeddings.weight"].data_ptr():
        tensors["head.weight"] = tensors["head.weight"].clone()  # safetensors keeps no shared memory
    config.architectures = ["Rwkv6ForCausalLM"]
    config.dtype = tensors["head.weight"].dtype
    vocabulary = _vocabulary(source.parent, config)
    tokenizer = None if vocabulary is None else Rwkv6Tokenizer(str(vocabulary))  # before hours of writing
    with whole_directory(target, replace) as directory:
        config.save_pretrained(directory)
        _write_shards(tensors, directory, shard_bytes)
        if tokenizer is not None:
            tokenizer.save_pretrained(directory)
        else:
            logger.warning(
                "%s is not beside %s: put it into %s, which has no tokenizer yet", VOCABULARY_FILE, source, target
            )


def read_pth(source: Path) -> tuple[dict[str, Tensor], Rwkv6Config]:
    """Map a `.pth` file into memory and check what is in it.

    Args:
        source: The file.

    Returns:
        The tensors by their Hugging Face names, and the sizes that their shapes tell.

    Raises:
        UsageError: The file cannot be read, or is not RWKV6.
    """
    tensors = {hf_name(name): tensor for name, tensor in _load_pth(source).items()}
    return tensors, infer_config({name: tuple(t.shape) for name, t in tensors.items()}, str(source))


def _vocabulary(folder: Path, config: Rwkv6Config) -> Path | None:
    """Return the vocabulary file: beside the checkpoint, else the one in the `rwkv` package, for models of its size."""
    candidates = [folder / VOCABULARY_FILE]
    package = importlib.util.find_spec("rwkv")
    if package is not None and package.submodule_search_locations and config.vocab_size == WORLD_ROWS:
        candidates += [Path(place) / VOCABULARY_FILE for place in package.submodule_search_locations]
    return next((file for file in candidates if file.is_file()), None)


def directory_to_pth(source: Path, target: Path) -> None:
    """Write a Hugging Face directory's weights as a `.pth` file that the `rwkv` runtime loads.

    Args:
        source: A directory with `model.safetensors`, or with shards.
        target: The file to write; an existing one is replaced.

    Raises:
        UsageError: The weights are missing, unreadable or not RWKV6.
    """
    tensors = _load_directory(source)
    config = infer_config({name: tuple(t.shape) for name, t in tensors.items()}, str(source))
    _check_config(source, config)
    # In the order of the modules: the runtime tells versions and head counts by the order of the names.
    ordered = {pth_name(name): tensors[name] for name in expected_shapes(config)}
    with whole_file(target) as stream:  # a stream, for its OSError when the disk is full: torch's own says nothing
        torch.save(ordered, stream)


def _load_pth(source: Path) -> dict[str, Tensor]:
    """Map a `.pth` file into memory; nothing in it is executed."""
    try:
        tensors = torch.load(source, map_location="cpu", weights_only=True, mmap=True)
    except PermissionError:
        raise
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        if _is_old_format(source):
            raise UsageError(
                f"checkpoint {source}: in PyTorch's old format; load it and save it anew with torch.save"
            ) from error
        reason = str(error).strip().splitlines()[0][:150] if str(error).strip() else type(error).__name__
        raise UsageError(
            f"checkpoint {source}: not a whole .pth file of tensors ({reason}); download or copy it again"
        ) from error
    if not isinstance(tensors, dict) or not all(
        isinstance(n, str) and isinstance(t, Tensor) for n, t in tensors.items()
    ):
        raise UsageError(
            f"checkpoint {source}: holds something else than named tensors; give the model's own .pth file"
        )
    return tensors


def _is_old_format(source: Path) -> bool:
    """Return whether a file begins like a bare pickle, as torch.save wrote before version 1.6; now it is a zip file."""
    if not source.is_file():
        return False
    with source.open("rb") as stream:
        return stream.read(2) == b"\x80\x02"


def check_directory(source: Path, config: Rwkv6Config) -> None:
    """Check names and shapes of a directory's weights, from the files' headers: milliseconds for any size.

    Args:
        source: A directory with `model.safetensors`, or with shards.
        config: The directory's own configuration.

    Raises:
        UsageError: A file is missing or unreadable, a tensor is missing, superfluous or of another shape.
    """
    shapes = {}
    for stream in _weights(source):
        shapes |= {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
    check_tensors(shapes, config, str(source))


def _load_directory(source: Path) -> dict[str, Tensor]:
    """Map the safetensors files of a directory into memory."""
    tensors = {}
    for stream in _weights(source):
        tensors |= {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118  not a dict
    return tensors


def _weights(source: Path) -> Iterator[Any]:
    """Yield the safetensors files that a directory's model consists of, opened."""
    for file in weight_files(source):
        try:
            with safe_open(file, framework="pt") as stream:
                yield stream
        except (SafetensorError, OSError) as error:
            raise UsageError(
                f"weights {file}: cut off or corrupt ({error}); download or copy the file again"
            ) from error


def _check_config(source: Path, inferred: Rwkv6Config) -> None:
    """Refuse a directory whose config has settings that a `.pth` file cannot carry: the runtime takes the usual ones.

    Raises:
        UsageError: A LayerNorm epsilon or the head-size divisor differs from the usual.
    """
    if not (source / "config.json").is_file():
        raise UsageError(f"model directory {source}: no config.json in it")
    try:
        config = Rwkv6Config.from_pretrained(source)
    except (OSError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{source / 'config.json'}: cannot be read ({str(error).splitlines()[0][:150]})") from error
    for name in ("layer_norm_epsilon", "head_size_divisor"):
        if getattr(config, name) != getattr(inferred, name):
            raise UsageError(
                f"model directory {source}: {name} = {getattr(config, name)}, but the rwkv runtime computes with "
                f"{getattr(inferred, name)} and a .pth file cannot tell it otherwise"
            )


def _write_shards(tensors: dict[str, Tensor], directory: Path, shard_bytes: int) -> None:
    """Write tensors as `model-0000i-of-0000n.safetensors` with an index, or as one `model.safetensors`."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    files = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    if len(shards) == 1:
        files = ["model.safetensors"]
    for file, names in zip(files, shards, strict=True):
        save_file({name: tensors[name].contiguous() for name in names}, directory / file, metadata={"format": "pt"})
    if len(shards) > 1:
        total = sum(tensor.nbytes for tensor in tensors.values())
        weight_map = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(directory / "model.safetensors.index.json", index)
