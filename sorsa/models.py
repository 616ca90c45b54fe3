"""Loading base models, merged models and tokenizers; every way that can fail answers with one line. RWKV6 too.

Models come from a local directory or from the Hugging Face hub, safetensors only and without remote code. The number
type is always passed on: the paper loads FP32, transformers 5 otherwise keeps the checkpoint's own type (README,
difference 13).
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sorsa.errors import UsageError
from sorsa.rwkv6 import MODEL_TYPE, register_rwkv6
from sorsa.weight_files import weight_files

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from sorsa.config import RunConfig

logger = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
# One of these holds the vocabulary. Without it transformers may build an empty tokenizer instead of failing.
_VOCABULARIES = ("tokenizer.json", "*.model", "vocab.json", "*vocab*.txt", "*.tiktoken", "tekken.json")


def load_tokenizer(config: RunConfig, path: str | Path | None = None) -> PreTrainedTokenizerBase:
    """Load the run's tokenizer; the padding token is the end-of-sequence token where the tokenizer has none.

    Args:
        config: The run's settings; `tokenizer`, `model`, `revision` and `local` are read.
        path: A directory to use instead of the config's, for instance a merged model.

    Raises:
        UsageError: There is no such directory or hub repository, or no readable tokenizer with an end token in it.
    """
    from transformers import AutoTokenizer

    source = str(path or config.tokenizer or config.model)
    what = "tokenizer" if path or config.tokenizer else "model"
    if _is_directory(source, what) and not any(any(Path(source).glob(name)) for name in _VOCABULARIES):
        raise UsageError(
            f"tokenizer directory {source}: no tokenizer in it (looked for {', '.join(_VOCABULARIES)}); copy the "
            "model's tokenizer files there or give another directory or hub id with --tokenizer"
        )
    revision = None if path or config.tokenizer else config.revision
    register_rwkv6()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, revision=revision, local_files_only=config.local, trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises bare Exception for a broken tokenizer.json
        what = "tokenizer" if Path(source).is_dir() else what
        raise UsageError(_unreadable(what, source, error, config.local)) from error
    if tokenizer.eos_token is None:
        raise UsageError(
            f"tokenizer {source}: no end-of-sequence token, so answers would never end; set eos_token in its "
            "tokenizer_config.json or give another one with --tokenizer"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base_model(config: RunConfig, dtype: torch.dtype, path: str | Path | None = None) -> PreTrainedModel:
    """Load a causal language model onto this process's device: its CUDA device where there is one, else the CPU.

    Args:
        config: The run's settings; `model`, `revision`, `local` and `rwkv` are read.
        dtype: Number type of the weights in memory; training and merging use `torch.float32`.
        path: A directory to use instead of `config.model`, for instance a merged model.

    Raises:
        UsageError: There is no such directory or hub repository, its weights are missing, cut off or incomplete, or
            its architecture is unknown or not the one that `rwkv` says.
    """
    from transformers import AutoModelForCausalLM

    source = str(path or config.model)
    settings = model_settings(config, path)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            source,
            config=settings,
            revision=None if path else config.revision,
            dtype=dtype,
            device_map={"": device()},  # straight to the GPU: no second copy in host memory
            use_safetensors=True,  # pickled weights can run code when they are loaded
            local_files_only=config.local,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # OSError, ValueError, KeyError, SafetensorError, hub errors: all mean "not loadable"
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            raise
        raise UsageError(_unreadable("model", source, error, config.local)) from error
    missing = sorted(report["missing_keys"])
    if missing:  # transformers would fill them with random numbers
        raise UsageError(
            f"model {source}: {len(missing)} weights are missing, the first is {missing[0]}; "
            "the checkpoint is incomplete or of another architecture: download or convert it again"
        )
    return model


def load_skeleton(config: RunConfig, check_weights: bool = True) -> PreTrainedModel:
    """Build the base model without its weights (on the meta device, seconds for 7B), and check that they are whole.

    It answers what names and shapes can: mistakes are found before the data is tokenised and the weights are loaded.

    Args:
        config: The run's settings; `model`, `revision`, `local` and `rwkv` are read.
        check_weights: Whether a directory has to hold the weights too; a plan needs only its config.json.

    Raises:
        UsageError: As `load_base_model`, except for what only the weights themselves can tell.
    """
    from transformers import AutoModelForCausalLM

    settings = model_settings(config, check_weights=check_weights)
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(settings, trust_remote_code=False)
    except Exception as error:  # as in load_base_model
        raise UsageError(_unreadable("model", config.model, error, config.local)) from error


def model_settings(config: RunConfig, path: str | Path | None = None, check_weights: bool = True) -> PreTrainedConfig:
    """Read a model's `config.json`, after a look at its weight files: all that is known without reading weights.

    Args:
        config: The run's settings; `model`, `revision`, `local` and `rwkv` are read.
        path: A directory to use instead of `config.model`, for instance a merged model.
        check_weights: Whether a directory has to hold the weights too.

    Raises:
        UsageError: There is no such model, a file is missing or cut off, or it is not what `rwkv` says.
    """
    from transformers import AutoConfig

    register_rwkv6()
    source = str(path or config.model)
    if _is_directory(source, "model"):
        _check_directory(Path(source), check_weights)
    try:
        settings = AutoConfig.from_pretrained(
            source,
            revision=None if path else config.revision,
            local_files_only=config.local,
            trust_remote_code=False,
        )
    except UsageError:  # sizes that RWKV6 cannot have
        raise
    except Exception as error:  # as in load_base_model
        raise UsageError(_unreadable("model", source, error, config.local)) from error
    _check_rwkv(config, settings, source)
    if is_rwkv6(settings) and Path(source).is_dir() and check_weights:
        from sorsa.rwkv6.convert import check_directory

        check_directory(Path(source), settings)
    return settings


def is_rwkv6(settings: PreTrainedConfig) -> bool:
    """Return whether a model's settings are those of an RWKV6."""
    return settings.model_type == MODEL_TYPE


def _check_rwkv(config: RunConfig, settings: PreTrainedConfig, source: str) -> None:
    """Refuse a model that is not what `rwkv` says; where nothing is said, any model is right."""
    if config.rwkv and not is_rwkv6(settings):
        found = (settings.architectures or [settings.model_type])[0]
        raise UsageError(
            f"rwkv = True: the model {source} is a {found}, not an RWKV6; leave --rwkv out, or give another --model"
        )
    if config.rwkv is False and is_rwkv6(settings):
        raise UsageError(f"rwkv = False: the model {source} is an RWKV6; leave --no-rwkv out, or give another --model")


def make_savable(model: PreTrainedModel) -> None:
    """Mend a generation config that transformers 5 loads but refuses to write: sampling values without sampling."""
    try:
        model.generation_config.validate(strict=True)
    except ValueError:
        logger.warning("the base model's generation config has sampling values but do_sample = false: set to true")
        model.generation_config.do_sample = True


def device() -> torch.device:
    """Return the device of this process: the CUDA device of its local rank (torchrun), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Refuse a tokenizer that can produce token ids beyond the model's embedding.

    Raises:
        UsageError: The tokenizer has more tokens than the embedding has rows.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UsageError(
            f"tokenizer {tokenizer.name_or_path}: {len(tokenizer)} tokens, but the model's embedding has {rows} rows; "
            "give the model's own tokenizer with --tokenizer"
        )


def _is_directory(source: str, what: str) -> bool:
    """Return whether `source` is a directory; raise where it is neither that nor possibly a hub id."""
    if Path(source).is_dir():
        return True
    if Path(source).suffix == ".pth" and Path(source).exists():
        raise UsageError(
            f"{what} {source}: a .pth file; convert it with `python run.py --convert {source} DIR` and give DIR"
        )
    if Path(source).exists():
        raise UsageError(f"{what} {source}: a file; give the directory that holds it, or a hub id such as org/name")
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise UsageError(
            f"{what} directory {source}: does not exist (looked in {Path.cwd()}); correct the path or give a hub id "
            "such as org/name"
        )
    return False


def _check_directory(directory: Path, weights: bool) -> None:
    """Check a model directory before anything is loaded: config.json and, if asked, whole safetensors files.

    Raises:
        UsageError: A file is missing, or its header and its size disagree (cut off while copying, not safetensors).
    """
    from safetensors import SafetensorError, safe_open

    if not (directory / "config.json").is_file():
        raise UsageError(
            f"model directory {directory}: no config.json in it; give the directory of a Hugging Face model"
        )
    for file in weight_files(directory) if weights else ():
        try:
            with safe_open(file, framework="pt"):  # compares the header with the file's size, reads no weights
                pass
        except (SafetensorError, OSError) as error:
            size = file.stat().st_size if file.exists() else 0
            raise UsageError(
                f"weights {file}: cut off or corrupt ({size} bytes; {_first_line(error)}); "
                "download or copy the file again"
            ) from error


def _unreadable(what: str, source: str, error: Exception, local: bool) -> str:
    """Return one line for a failed load: what, where, the library's reason, and the next step."""
    if Path(source).is_dir():
        return f"{what} directory {source}: cannot be loaded ({_first_line(error)}); check its files"
    way = "its files are not in the local cache (--local)" if local else "the hub did not give it"
    return (
        f"{what} {source}: no such directory here, and {way} ({_first_line(error)}); correct the name, check the "
        "network and `hf auth login` for gated models, or give a local directory"
    )


def _first_line(error: Any) -> str:
    """Return the first line of an exception's text, at most 200 characters, or its type when it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
