"""A text file as overlapping windows of tokens, read piece by piece: 1 GB needs no more memory than 1 MB.

A piece ends where a line does; a token that would cross such an end, once in a million characters, becomes two.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from sorsa.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PIECE = 1 << 20  # characters tokenised at a time: tens of MB of the tokenizer's objects


def check_text(path: Path, name: str) -> None:
    """Read a file once to the end, in pieces.

    Args:
        path: The file.
        name: Of the run, whose configuration may be where the path comes from.

    Raises:
        UsageError: It cannot be read, or is not UTF-8 text in a .txt file.
    """
    if path.suffix.lower() != ".txt":
        raise UsageError(
            f"test_file = {str(path)!r}: perplexity reads plain text, the whole of one .txt file: --test-file FILE.txt "
            f"(without it, test_file of configs/{name}.yaml is taken)"
        )
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            while stream.read(PIECE):
                pass
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text ({error.reason}); convert it first") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}; check the path") from error


class Text:
    """The tokens of a file.

    Args:
        path: A UTF-8 text.
        tokenizer: Of the model.
    """

    def __init__(self, path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        self.path, self._tokenizer = path, tokenizer
        self.start: int | None = tokenizer.bos_token_id
        self.read_bytes = self.read_tokens = 0  # of the file, so far

    def tokens(self) -> Iterator[int]:
        """Yield the start token, if there is one, and all tokens of the file."""
        from sorsa.data.tokenise import prompt_ids

        if self.start is not None:
            yield self.start
        self.read_bytes = self.read_tokens = 0
        for piece in self._pieces():
            (ids,) = prompt_ids(self._tokenizer, [piece], start=False)
            self.read_bytes += len(piece.encode())
            self.read_tokens += len(ids)
            yield from ids

    def _pieces(self) -> Iterator[str]:
        rest = ""
        with open(self.path, encoding="utf-8", newline="") as stream:
            while new := stream.read(PIECE):
                rest += new
                cut = rest.rfind("\n") + 1 or rest.rfind(" ") + 1 or len(rest)
                if len(new) == PIECE:
                    yield rest[:cut]
                    rest = rest[cut:]
        if rest:
            yield rest

    def bytes_of(self, count: int) -> int:
        """Return how many bytes the first `count` predicted tokens spell.

        Exact where that is the whole file. A part of it is decoded, where a letter cut in two counts as three bytes.

        Args:
            count: Number of tokens; the text has been read at least so far.
        """
        whole = self.path.stat().st_size
        unseen = self.start is None  # then the first token of the file is not predicted
        if self.read_bytes < whole or count + unseen < self.read_tokens:
            whole = self._bytes_of_first(count + unseen)
        return whole - (self._bytes_of_first(1) if unseen else 0)

    def _bytes_of_first(self, count: int) -> int:
        begin = int(self.start is not None)
        ids = list(islice(self.tokens(), begin, begin + count))
        return len(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False).encode("utf-8", "replace"))


def windows(tokens: Iterator[int], context: int, stride: int) -> Iterator[tuple[list[int], int]]:
    """Yield (token ids, how many of the last are to be predicted); all windows but the last have `context` ids.

    Args:
        tokens: Of the whole text.
        context: Tokens of a window.
        stride: How far the next one is moved, below `context`.
    """
    ids = list(islice(tokens, context))
    fresh = len(ids) - 1  # nothing predicts the first
    while fresh > 0:
        yield ids, fresh
        new = list(islice(tokens, stride))
        ids, fresh = ids[-(context - stride) :] + new, len(new)
