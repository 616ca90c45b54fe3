"""Held-out perplexity of a text file, before and after training: how much of its language has the model forgotten?

    python run.py --name X --test --test-dataset perplexity --test-file TEXT.txt            (also --base, --unmerged)

The whole file is one sequence, begun with the start token where the tokenizer has one. Windows of C = `--length`
tokens (at most the model's positions) move on by C / 2; each counts the tokens that the one before did not see, so
that every token after the first window is predicted from at least C / 2 others. Without a start token the very first
token is not predicted. Perplexity is exp of the mean negative log-likelihood per token; bits per byte can be compared
between tokenizers. The 95% interval takes windows as the sample (ratio estimator, Student's t).

The file is read piece by piece, and what each window said goes to results/perplexity.jsonl as it comes, so that 1 GB of
text needs no more memory than 1 MB.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tqdm import tqdm

from sorsa.errors import UsageError
from sorsa.evaluation.questions import read_jsonl
from sorsa.evaluation.result_files import read_record
from sorsa.evaluation.statistics import student_quantile
from sorsa.evaluation.text_windows import Text, check_text, windows
from sorsa.files import whole_file, write_json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from sorsa.config import RunConfig
    from sorsa.evaluation.subject import Subject
    from sorsa.run_folder import RunFolder

NAME = "perplexity"
LOGITS_BYTES = 256 << 20  # of FP32 logits in one batch, the largest thing in memory beside the model
HIGHEST = math.log(sys.float_info.max)  # nats per token: exp of more is no number
WINDOWING = "windows of `context` tokens, moved by `stride`; each token but the first window's has context - stride"


@dataclasses.dataclass
class Sums:
    """Running sums over windows: enough for the mean, its standard error, and nothing that grows with the file."""

    windows: int = 0
    tokens: int = 0
    nll: float = 0.0  # nats
    squares: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of nll^2, nll * tokens, tokens^2

    def add(self, nll: float, tokens: int) -> None:
        """Add one window."""
        self.windows, self.tokens, self.nll = self.windows + 1, self.tokens + tokens, self.nll + nll
        steps = (nll * nll, nll * tokens, float(tokens * tokens))
        self.squares = tuple(before + step for before, step in zip(self.squares, steps, strict=True))

    @property
    def mean(self) -> float:
        """Negative log-likelihood per token, nats."""
        return self.nll / self.tokens

    def standard_error(self) -> float | None:
        """Return the standard error of the mean with windows as the sample; None for a single one.

        A ratio of sums: the residual of a window is nll - mean * tokens (Cochran, Sampling Techniques, 1977, ch. 6).
        """
        if self.windows < 2:
            return None
        nll2, cross, tokens2 = self.squares
        residuals = max(0.0, nll2 - 2 * self.mean * cross + self.mean**2 * tokens2)
        return math.sqrt(residuals * self.windows / (self.windows - 1)) / self.tokens


def run(config: RunConfig, subject: Subject) -> None:
    """Measure the perplexity of `config.test_file` and write `results/perplexity.json`.

    Args:
        config: A validated run configuration; test_file, length, limit (windows), test_precision are read.
        subject: The model under test.

    Raises:
        UsageError: No text, another engine than hf, or the model cannot be loaded.
    """
    from sorsa.run_folder import RunFolder, environment

    path = _text_file(config)
    import torch

    model = subject.load({"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[config.test_precision])
    tokenizer = subject.load_tokenizer()
    context = min(config.length, getattr(model.config, "max_position_embeddings", None) or config.length)
    stride = max(1, context // 2)
    rows = max(1, LOGITS_BYTES // (4 * context * model.config.vocab_size))
    batch_size = config.valid_batch_size or rows
    folder, name, begin = RunFolder(config.run_path, config.name), subject.result_name(NAME), time.monotonic()
    with whole_file(folder.questions(name)) as stream:
        text = Text(path, tokenizer)
        sums = _measure(model, text, (context, stride, batch_size), config.limit, stream)
    seconds = time.monotonic() - begin
    result = {
        "dataset": NAME,
        "source": str(path),
        "model": subject.name,
        "kind": subject.kind,
        **scores(sums, text.bytes_of(sums.tokens)),
        "text": {"bytes": path.stat().st_size, "sha256": _sha256(path)},
        "windows": {"context": context, "stride": stride, "count": sums.windows, "rule": WINDOWING},
        "start_token": text.start is not None,
        "precision": config.test_precision,
        "engine": config.engine,
        "batch_size": batch_size,
        "seconds": round(seconds, 2),
        "tokens_per_second": round(sums.tokens / seconds, 1),
        "settings": subject.fingerprint(),
        "config": dataclasses.asdict(config),
        "environment": environment(),
    }
    write_json(folder.result(name), result)
    _print(name, result, folder)


def _text_file(config: RunConfig) -> Path:
    """Return the text to read; everything that is wrong with it is found before the model is loaded."""
    if config.engine != "hf":
        raise UsageError(
            f"perplexity with engine = {config.engine}: only the engine hf gives likelihoods; leave it out"
        )
    if not config.test_file:
        raise UsageError("perplexity needs a text: --test-file FILE.txt")
    path = Path(config.test_file)
    check_text(path, config.name)
    return path


def _measure(
    model: PreTrainedModel, text: Text, sizes: tuple[int, int, int], limit: int | None, stream: IO[bytes]
) -> Sums:
    """Add up the log-likelihoods of a text, batch by batch, and write one row per window."""
    context, stride, batch_size = sizes
    sums = Sums()
    found = islice(windows(text.tokens(), context, stride), limit)
    size = text.path.stat().st_size
    with tqdm(desc=NAME, unit="window", total=limit) as bar:
        while batch := list(islice(found, batch_size)):
            per_window = window_nll(model, batch)
            for nll, (_, fresh) in zip(per_window, batch, strict=True):
                stream.write(json.dumps({"window": sums.windows, "tokens": fresh, "nll": nll}).encode() + b"\n")
                sums.add(nll, fresh)
            if limit is None:  # what the rest of the file will give is known only roughly
                bar.total = max(sums.windows, math.ceil(text.read_tokens * size / max(1, text.read_bytes) / stride) - 1)
            bar.update(len(batch))
    if not sums.tokens:
        raise UsageError(f"{text.path} holds no text to predict: perplexity needs at least two tokens")
    if not sums.mean < HIGHEST:  # nor where it is nan
        raise UsageError(
            "the model's likelihoods are no numbers: its training diverged, or it needs --test-precision fp32"
        )
    return sums


def window_nll(model: PreTrainedModel, batch: list[tuple[list[int], int]]) -> list[float]:
    """Return the summed negative log-likelihood (nats) of the fresh tokens of each window.

    Args:
        model: A causal language model.
        batch: Windows; a shorter one is padded on the right, which no earlier token sees.
    """
    import torch

    width = max(len(ids) for ids, _ in batch)
    rows = [ids + [ids[-1]] * (width - len(ids)) for ids, _ in batch]
    with torch.inference_mode():
        inputs: torch.Tensor = torch.tensor(rows, device=model.device)  # (batch, context)
        logits = model(input_ids=inputs, use_cache=False).logits  # (batch, context, vocabulary)
        return [_row_nll(logits[row], inputs[row], len(ids), fresh) for row, (ids, fresh) in enumerate(batch)]


def _row_nll(logits: torch.Tensor, ids: torch.Tensor, length: int, fresh: int) -> float:
    """Return the sum over the last `fresh` of `length` tokens; one row in FP32 at a time, added up in FP64."""
    import torch

    predicted = logits[length - fresh - 1 : length - 1].float()  # (fresh, vocabulary)
    losses = torch.nn.functional.cross_entropy(predicted, ids[length - fresh : length], reduction="none")
    return float(losses.double().sum())


def scores(sums: Sums, size: int) -> dict[str, Any]:
    """Return perplexity and its companions.

    Args:
        sums: Over all windows.
        size: Bytes that the predicted tokens spell.
    """
    value, interval = _exponentials(sums)
    return {
        "perplexity": value,
        "interval_95": interval,
        "nll_per_token": sums.mean,
        "nll_standard_error": sums.standard_error(),
        "bits_per_byte": sums.nll / math.log(2) / size,
        "tokens": sums.tokens,
        "bytes": size,
    }


def change(before: Iterable[dict[str, Any]], after: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how perplexity changed on the same windows: the factor and its 95% interval.

    Args:
        before: Rows of one model's results/perplexity.jsonl.
        after: Of another's.

    Returns:
        None where the windows differ. Paired, so much narrower than the two intervals suggest.
    """
    sums = Sums()
    for old, new in zip_longest(before, after):
        if old is None or new is None or old["tokens"] != new["tokens"]:
            return None
        sums.add(new["nll"] - old["nll"], old["tokens"])
    factor, interval = _exponentials(sums)
    return {"factor": factor, "interval_95": interval}


def _exponentials(sums: Sums) -> tuple[float, list[float] | None]:
    """Return exp of the mean and of the ends of its 95% interval; one window has no interval."""
    error = sums.standard_error()
    if error is None:
        return _exp(sums.mean), None
    reach = student_quantile(0.975, sums.windows - 1) * error
    return _exp(sums.mean), [_exp(sums.mean - reach), _exp(sums.mean + reach)]


def _exp(value: float) -> float:
    """Return exp of a value, at most the largest number there is: JSON has no infinity."""
    return math.exp(min(value, HIGHEST))


def _print(name: str, result: dict[str, Any], folder: RunFolder) -> None:
    """Print the result, and beside it the base model's, or what the base model became."""
    print(_line(name, result))
    base = f"base-{NAME}"
    for other in (NAME, f"unmerged-{NAME}") if name == base else (base,):
        if not folder.result(other).is_file():
            continue
        order = (name, other) if name == base else (other, name)
        try:
            _print_beside(other, result, folder, order)
        except (UsageError, LookupError, TypeError, ValueError) as error:  # this test's own work is done and written
            print(f"not compared with {other}: {folder.result(other)} or its rows are damaged ({error})")
    print(f"results: {folder.result(name)}")


def _print_beside(other: str, result: dict[str, Any], folder: RunFolder, order: tuple[str, str]) -> None:
    """Print an earlier result on the same text, and the change from the first to the second of `order`."""
    found = read_record(folder.result(other))
    if any(found.get(key) != result[key] for key in ("text", "windows", "precision")):
        return  # of another text, or read in another way
    line = _line(other, found)
    changed = change(*(read_rows(folder.questions(one)) for one in order))
    print(line)
    if changed:
        print(f"from {order[0]} to {order[1]}: times {_number(changed['factor'], changed['interval_95'])}")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a results/perplexity.jsonl."""
    return (row for _, row in read_jsonl(path))


def _line(name: str, result: dict[str, Any]) -> str:
    value = _number(result["perplexity"], result["interval_95"])
    return f"{name}: {value}, {result['bits_per_byte']:.4f} bits per byte ({result['tokens']} tokens)"


def _number(value: float, interval: list[float] | None) -> str:
    bounds = "" if interval is None else f" (95% interval {interval[0]:.4f} to {interval[1]:.4f})"
    return f"{value:.4f}{bounds}"


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
