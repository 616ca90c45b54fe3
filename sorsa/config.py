"""The settings of one run: every field of a `configs/X.yaml`, with its type, default, unit and allowed range.

This file is the single list of settings: `sorsa.cli` makes one flag of each field (`valid_batch_size` becomes
`--valid-batch-size`), `sorsa.config_values` checks values against it, `sorsa.config_files` reads the YAML files.
Defaults are the paper's set-up (Tables 3 and 5) unless the comment beside a field says otherwise.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

SCHEDULERS = (
    "cosine",
    "linear",
    "constant",
    "constant_with_warmup",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
)


def setting(default: Any, text: str, *, group: str, flags: str = "", **limits: Any) -> Any:
    """Declare one field of `RunConfig`.

    Args:
        default: The value without YAML and flags; a callable is called for each new config.
        text: One line for `--help`: meaning, unit, and when it is worth changing.
        group: The heading of `--help` it stands under.
        flags: Further spellings of its flag, separated by spaces (`-r`, `--accum-step`).
        **limits: `low` and `high` (inclusive), `above` and `below` (exclusive) for numbers; `choices` for words.

    Returns:
        The dataclass field.
    """
    metadata = {"text": text, "group": group, "flags": tuple(flags.split()), "limits": limits}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _default_workers() -> int:
    """Return the number of tokenising processes: 8 keep a fast tokenizer's disk busy, more only cost memory."""
    return min(8, os.cpu_count() or 1)


def _default_mix_precision() -> list[str]:
    """Return the paper's arithmetic: BF16 autocast, TF32 for what stays in FP32."""
    return ["bf16", "tf32"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The complete, resolved settings of one run. Build it with `sorsa.config_files.load_config` to have it checked."""

    name: str = setting("", "name of the run: reads configs/NAME.yaml, writes RUN_PATH/NAME", group="run", flags="-n")
    run_path: str = setting("./runs", "folder that holds the run folders", group="run")
    overwrite: bool = setting(False, "replace what an earlier run of this name left", group="run")
    seed: int = setting(42, "seed of data order, initialisation and dropout", group="run", low=0, high=2**32 - 1)
    local: bool = setting(False, "never use the network: everything from local paths and caches", group="run")
    cache_path: str | None = setting(None, "cache of the hub's and of tokenised data (default: HF_HOME's)", group="run")

    model: str = setting("", "base model: hub id or directory", group="model")
    revision: str | None = setting(None, "hub revision of the base model (branch, tag or commit)", group="model")
    tokenizer: str | None = setting(None, "hub id or directory of the tokenizer (default: the model's)", group="model")
    rwkv: bool | None = setting(
        None, "insist on an RWKV6 as base model (default: whatever the model is)", group="model"
    )

    peft: str = setting("sorsa", "fine-tuning method", group="adapter", flags="-p")
    rank: int = setting(128, "r, singular triplets (or LoRA columns) per matrix", group="adapter", flags="-r", low=1)
    alpha: float | None = setting(
        None, "the adapter's part is scaled by alpha / rank (default: no scaling)", group="adapter", flags="-a", above=0
    )
    dropout: float = setting(
        0.0, "dropout on the adapter's input, probability", group="adapter", flags="-d", low=0, below=1
    )
    target_modules: str | list[str] = setting(
        "all-linear", "'all-linear', or names of the modules to adapt", group="adapter"
    )
    exclude_modules: list[str] | None = setting(None, "names of modules not to adapt", group="adapter")
    rank_pattern: dict[str, int] = setting(dict, "another rank for some modules, NAME=RANK", group="adapter")
    decomposition: str = setting(
        "randomized", "how W0 is split at the start", group="adapter", choices=("randomized", "exact")
    )
    svd_cache_path: str | None = setting(
        None, "folder that keeps decompositions for later runs (default: none)", group="adapter"
    )
    init_rank: int | None = setting(
        None, "AdaLoRA's rank at the start, r_init (default: the rank)", group="adapter", low=1
    )
    t_init: int = setting(100, "AdaLoRA: steps before the ranks are cut", group="adapter", low=0)
    t_final: int = setting(600, "AdaLoRA: steps at the end with the final ranks", group="adapter", low=0)
    beta1: float = setting(0.85, "AdaLoRA: smoothing of the sensitivity", group="adapter", above=0, below=1)
    beta2: float = setting(0.85, "AdaLoRA: smoothing of the uncertainty", group="adapter", above=0, below=1)
    osora_train: str = setting("both", "OSoRA: train s, o, or both", group="adapter", choices=("both", "s", "o"))

    gamma: float = setting(4e-4, "strength of the orthonormal regularizer", group="regularizer", flags="-g", low=0)
    regularizer_form: str = setting(
        "frobenius",
        "'frobenius': mean of norms, the authors' code; 'squared': sum of squared norms, Definition 4.1",
        group="regularizer",
        choices=("frobenius", "squared"),
    )
    regularizer_scaling: str = setting(
        "as_run",
        "'as_run': gamma / (lr * 64), as behind Table 1; 'paper': gamma / lr",
        group="regularizer",
        choices=("as_run", "paper"),
    )

    train_dataset: str | None = setting(
        None, "training set: a registered name, or a .jsonl, .json or .parquet file with its columns", group="data"
    )
    split: str = setting("", "rows to use, as in [:100000] (default: all)", group="data")
    length: int = setting(512, "longest sample, tokens", group="data", flags="-l", low=2)
    truncation: str = setting(
        "sample",
        "what is cut to LENGTH: the 'sample', or prompt and response 'per_part' as the authors did",
        group="data",
        choices=("sample", "per_part"),
    )
    workers: int = setting(_default_workers, "tokenising processes (default: the CPUs, at most 8)", group="data", low=1)

    batch_size: int = setting(2, "samples per forward pass and device", group="training", low=1)
    accum_steps: int = setting(
        64, "forward passes per optimizer step", group="training", flags="--accum-step", low=1
    )  # 2 x 64 = the paper's global batch of 128, as split in the authors' script
    epochs: float = setting(1.0, "passes over the data", group="training", above=0)
    max_steps: int | None = setting(None, "stop after so many optimizer steps", group="training", low=1)
    lr: float = setting(3e-5, "highest learning rate", group="training", above=0, high=10)
    wd: float = setting(0.0, "weight decay of AdamW", group="training", low=0, below=1)
    scheduler: str = setting("cosine", "learning-rate curve", group="training", choices=SCHEDULERS)
    warmup: float = setting(0.03, "share of the steps that warm up", group="training", low=0, below=1)
    grad_clip: float = setting(
        1.0, "gradient norm to clip to, 0 for no clipping", group="training", flags="--grad-cp", low=0
    )
    mix_precision: list[str] = setting(
        _default_mix_precision,
        "arithmetic, may be repeated",
        group="training",
        choices=("bf16", "fp16", "fp32", "tf32"),
    )
    gradient_checkpointing: bool = setting(False, "recompute activations: less memory, slower", group="training")
    save_steps: int | None = setting(
        None, "optimizer steps between checkpoints (default: a fifth of the run)", group="training", low=1
    )

    snapshots: int = setting(
        0, "equal parts of the run after which to keep what was trained, for --analyze", group="training", low=0
    )

    test_dataset: str | None = setting(None, "benchmark; lm-eval with tasks, lm-eval:piqa,boolq", group="testing")
    test_file: str | None = setting(
        None, "local file with the benchmark's questions; perplexity: a .txt; lm-eval: a task's .yaml", group="testing"
    )
    test_precision: str = setting(
        "bf16", "type of the weights in testing", group="testing", choices=("bf16", "fp16", "fp32")
    )
    engine: str = setting(
        "hf",
        "what computes the answers: 'hf' (transformers), 'vllm', or for RWKV6 the runtime 'rwkv'",
        group="testing",
        choices=("hf", "vllm", "rwkv"),
    )
    tensor_parallel: int = setting(1, "GPUs that --engine vllm spreads the model over", group="testing", low=1)
    decoding: str = setting(
        "greedy",
        "'greedy'; 'authors_rwkv': less what the runtime takes off repeated tokens, and no start token",
        group="testing",
        choices=("greedy", "authors_rwkv"),
    )
    valid_batch_size: int | None = setting(
        None, "questions answered at a time (default: as many as the memory holds)", group="testing", low=1
    )
    stop_at_answer: bool = setting(
        True, "end an answer where the benchmark's answer is complete, not only at the end token", group="testing"
    )
    max_new_tokens: int | None = setting(
        None, "longest answer, tokens (default: the benchmark's)", group="testing", low=1
    )
    limit: int | None = setting(None, "only the first so many questions", group="testing", low=1)
    grading_rule: str = setting(
        "ours", "rule behind the headline accuracy", group="testing", flags="--rule", choices=("ours", "authors")
    )
    allow_code_execution: bool = setting(
        False, "let humaneval run the code the model wrote on this machine", group="testing"
    )
    allow_unsandboxed: bool = setting(
        False, "run that code with resource limits alone where no sandbox works", group="testing"
    )
    valid_file: str | None = setting(None, "questions on which --compare chooses the learning rate", group="testing")
    forgetting_file: str | None = setting(
        None, "text whose perplexity --compare takes before and after training: what was forgotten", group="testing"
    )
    lr_grid: list[float] | None = setting(
        None, "learning rates that --compare tries", group="training", above=0, high=10
    )
    base: bool = setting(False, "test the base model itself instead of the trained one", group="testing")
    unmerged: bool = setting(False, "test base model and adapter side by side instead of merged", group="testing")

    def settings(self) -> dict[str, Any]:
        """Return the resolved settings by name, without those that the method does not have."""
        from sorsa.methods import lacks

        return {name: value for name, value in dataclasses.asdict(self).items() if not lacks(self.peft, name)}

    def to_yaml(self) -> str:
        """Return the resolved settings as YAML text that `load_config` reads back to an equal config."""
        import yaml

        return yaml.safe_dump(self.settings(), sort_keys=False, allow_unicode=True)
