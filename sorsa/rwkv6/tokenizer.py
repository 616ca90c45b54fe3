"""The RWKV World tokenizer: greedy longest match over bytes. Its vocabulary file, `rwkv_vocab_v20230424.txt` in every
published RWKV6 model, has one token per line: the id, a Python literal (str or bytes), and the length in bytes.

Id 0, in no line, is end of text; it serves as start, padding and unknown token too, as in the reference runtime.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizer

from sorsa.errors import UsageError
from sorsa.files import write_whole

VOCABULARY_FILE = "rwkv_vocab_v20230424.txt"
END_OF_TEXT = "<|rwkv_tokenizer_end_of_text|>"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
_NOT_A_TOKEN = "\N{REPLACEMENT CHARACTER}".encode().decode("latin-1")  # 65530 .. 65535 are rows without a token


class Rwkv6Tokenizer(PreTrainedTokenizer):
    """Tokenizer of the RWKV World models; a token's string is its bytes read as Latin-1, so that any bytes have one.

    Args:
        vocab_file: The vocabulary file.
        **kwargs: The common settings of `PreTrainedTokenizer`. Special tokens other than id 0, which published files
            name `<s>`, are not taken over: they would become new tokens beyond the embedding.

    Raises:
        UsageError: The file is missing or malformed, or a single byte has no token.
    """

    vocab_files_names = {"vocab_file": VOCABULARY_FILE}  # noqa: RUF012  as transformers declares it
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    padding_side = "left"  # exact in the model, and what generation needs

    def __init__(self, vocab_file: str, **kwargs: Any) -> None:
        """Read the vocabulary."""
        if vocab_file is None or not Path(vocab_file).is_file():
            raise UsageError(
                f"RWKV vocabulary {vocab_file or VOCABULARY_FILE}: no such file; put {VOCABULARY_FILE}, which comes "
                "with every published RWKV6 model, into the model's directory"
            )
        self._ids = {END_OF_TEXT: 0, **read_vocabulary(vocab_file)}
        self._tokens = {index: token for token, index in self._ids.items()}
        self._lengths = _lengths_by_prefix(self._ids)
        added = {index: token for index, token in kwargs.pop("added_tokens_decoder", {}).items() if index != 0}
        forced = {**dict.fromkeys(_SPECIAL, END_OF_TEXT), "clean_up_tokenization_spaces": False}  # bytes as they are
        super().__init__(added_tokens_decoder=added, **(kwargs | forced))

    @property
    def vocab_size(self) -> int:
        """Number of tokens without added ones: 65530 for the World vocabulary, whose models have 65536 rows."""
        return len(self._ids)

    def get_vocab(self) -> dict[str, int]:
        """Return every token string and its id, added tokens included."""
        return self._ids | self._added_tokens_encoder

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        data = text.encode("utf-8", errors="surrogatepass").decode("latin-1")
        tokens, start = [], 0
        while start < len(data):
            for length in self._lengths.get(data[start : start + 2], (1,)):  # the longest first, 1 always
                token = data[start : start + length]
                if token in self._ids:
                    break
            tokens.append(token)
            start += len(token)
        return tokens

    def _convert_token_to_id(self, token: str) -> int:
        return self._ids.get(token, 0)

    def _convert_id_to_token(self, index: int) -> str:
        return self._tokens.get(index, _NOT_A_TOKEN)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join token strings; what is not UTF-8, for instance half a character, becomes U+FFFD."""
        data = b"".join(t.encode("utf-8" if t in self._added_tokens_encoder else "latin-1") for t in tokens)
        return data.decode("utf-8", errors="replace")

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Write the vocabulary file into a directory; returns its path."""
        path = Path(save_directory) / f"{filename_prefix + '-' if filename_prefix else ''}{VOCABULARY_FILE}"
        write_whole(path, "".join(_line(token, index) for token, index in self._ids.items() if index))
        return (str(path),)


def read_vocabulary(path: str | Path) -> dict[str, int]:
    """Read a vocabulary file.

    Args:
        path: Lines of `id literal length`, where the literal is a Python str or bytes.

    Returns:
        Token string (its bytes as Latin-1) to id, in the file's order.

    Raises:
        UsageError: A line is malformed or repeats a token or an id, or a byte has no token of its own.
    """
    ids: dict[str, int] = {}
    seen = {0}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            index, data = _parsed(line)
        except (ValueError, SyntaxError) as error:
            raise UsageError(
                f"RWKV vocabulary {path}, line {number}: {line[:60]!r} is not `id literal length`; "
                "download or copy the file again"
            ) from error
        token = data.decode("latin-1")
        if index in seen or token in ids:
            raise UsageError(f"RWKV vocabulary {path}, line {number}: id {index} or its token is there already")
        seen.add(index)
        ids[token] = index
    if missing := [byte for byte in range(256) if chr(byte) not in ids]:
        raise UsageError(
            f"RWKV vocabulary {path}: {len(missing)} of the 256 bytes have no token, the first is {missing[0]:#04x}; "
            "the file is cut off or of another tokenizer"
        )
    return ids


def _parsed(line: str) -> tuple[int, bytes]:
    """Return id and bytes of one line; ValueError where the three parts do not fit together."""
    index, rest = line.split(" ", 1)
    literal, length = rest.rsplit(" ", 1)
    token = ast.literal_eval(literal)
    data = token.encode("utf-8") if isinstance(token, str) else token
    if not isinstance(data, bytes) or not data or len(data) != int(length):
        raise ValueError(line)
    return int(index), data


def _line(token: str, index: int) -> str:
    """Return the file's line for a token: as str where its bytes are UTF-8, else as bytes."""
    data = token.encode("latin-1")
    try:
        return f"{index} {data.decode('utf-8')!r} {len(data)}\n"
    except UnicodeDecodeError:
        return f"{index} {data!r} {len(data)}\n"


def _lengths_by_prefix(tokens: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Return, for the first two bytes of any longer token, the lengths worth trying there, the longest first."""
    lengths: dict[str, set[int]] = {}
    for token, index in tokens.items():
        if len(token) > 1 and index:
            lengths.setdefault(token[:2], {1}).add(len(token))
    return {prefix: tuple(sorted(found, reverse=True)) for prefix, found in lengths.items()}
