"""The World tokenizer on a small vocabulary of its own: longest match, bytes, special token, saving, bad files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sorsa.errors import UsageError
from sorsa.rwkv6 import register_rwkv6
from sorsa.rwkv6.configuration import Rwkv6Config
from sorsa.rwkv6.tokenizer import END_OF_TEXT, VOCABULARY_FILE, Rwkv6Tokenizer, read_vocabulary

LONGER = [" the", " then", "ab", "abcd", "bc", "你", "你好", "\n\n", "'\"", b"\xf0\x9f", "12"]
TEXT = " then the ab abc abcd abcde\n\n\n你好你\t🙂 it's '\" 112 é\x00"


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    """All 256 bytes as ids 1 .. 256 and `LONGER` after them, with the published file's lines."""
    tokens = [bytes([byte]) for byte in range(256)] + LONGER
    lines = []
    for index, token in enumerate(tokens, start=1):
        data = token if isinstance(token, bytes) else token.encode()
        literal = repr(chr(data[0])) if data.isascii() and len(data) == 1 else repr(token)
        lines.append(f"{index} {literal} {len(data)}\n")
    path = tmp_path / VOCABULARY_FILE
    path.write_text("".join(lines), encoding="utf-8")
    return path


def longest_match(text: str) -> list[int]:
    """The definition, by trying every token at every place."""
    tokens = [bytes([byte]) for byte in range(256)] + [t if isinstance(t, bytes) else t.encode() for t in LONGER]
    data, ids = text.encode(), []
    while data:
        best = max((t for t in tokens if data.startswith(t)), key=len)
        ids.append(1 + tokens.index(best))
        data = data[len(best) :]
    return ids


def test_the_longest_token_wins(vocabulary: Path) -> None:
    tokenizer = Rwkv6Tokenizer(str(vocabulary))
    assert tokenizer(TEXT)["input_ids"] == longest_match(TEXT)
    assert 257 + LONGER.index("abcd") in longest_match(TEXT)
    assert tokenizer("")["input_ids"] == []


def test_random_texts_are_the_definition_and_come_back(vocabulary: Path) -> None:
    tokenizer, generator = Rwkv6Tokenizer(str(vocabulary)), random.Random(0)
    for _ in range(200):
        text = "".join(generator.choices("abcd the n12\n'\"你好🙂é\x00\xff", k=generator.randrange(30)))
        ids = tokenizer(text)["input_ids"]
        assert ids == longest_match(text)
        assert tokenizer.decode(ids) == text


def test_end_of_text_is_start_end_and_padding(vocabulary: Path) -> None:
    tokenizer = Rwkv6Tokenizer(str(vocabulary), bos_token="<s>", eos_token="</s>")  # as a published file has it
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id)
    assert special == (0, 0, 0, 0)
    assert len(tokenizer) == tokenizer.vocab_size == 257 + len(LONGER)
    ids = tokenizer(f"a{END_OF_TEXT}b")["input_ids"]
    assert ids == [98, 0, 99]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "ab"
    assert 0 not in tokenizer(END_OF_TEXT, split_special_tokens=True)["input_ids"]


def test_batches_are_padded_on_the_left(vocabulary: Path) -> None:
    batch = Rwkv6Tokenizer(str(vocabulary))(["ab", "x y"], padding=True)
    assert batch["input_ids"] == [[0, 0, 257 + LONGER.index("ab")], [121, 33, 122]]
    assert batch["attention_mask"] == [[0, 0, 1], [1, 1, 1]]


def test_what_is_not_text_becomes_a_replacement_character(vocabulary: Path) -> None:
    tokenizer = Rwkv6Tokenizer(str(vocabulary))
    assert tokenizer.decode([257 + LONGER.index(b"\xf0\x9f"), 98]) == "\ufffda"
    assert tokenizer.decode([5000, 98]) == "\ufffda"  # the model's rows without a token
    assert tokenizer.decode(tokenizer("x\ud83d")["input_ids"]).startswith("x")  # half a surrogate pair, from JSON


def test_saved_and_loaded_through_the_auto_class_it_is_the_same(vocabulary: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    register_rwkv6()
    tokenizer = Rwkv6Tokenizer(str(vocabulary))
    tokenizer.add_tokens(["<动作>"])
    tokenizer.save_pretrained(tmp_path / "saved")
    Rwkv6Config(num_hidden_layers=1).save_pretrained(tmp_path / "saved")
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert isinstance(loaded, Rwkv6Tokenizer)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    ids = loaded(TEXT + "<动作>")["input_ids"]
    assert ids == longest_match(TEXT) + [tokenizer.vocab_size]
    assert loaded.decode(ids) == TEXT + "<动作>"
    written = (tmp_path / "saved" / VOCABULARY_FILE).read_text(encoding="utf-8")
    assert read_vocabulary(tmp_path / "saved" / VOCABULARY_FILE) == read_vocabulary(vocabulary)
    assert written.count("\n") == 256 + len(LONGER)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("300 'xyz'", r"line 268: \"300 'xyz'\" is not `id literal length`"),
        ("300 'xyz' 4", r"line 268: \"300 'xyz' 4\" is not"),
        ("300 open('x') 4", r"line 268: .* is not `id literal length`"),
        ("5 'xyz' 3", r"line 268: id 5 or its token is there already"),
        ("300 'abcd' 4", r"line 268: id 300 or its token is there already"),
    ],
)
def test_a_malformed_line(vocabulary: Path, line: str, message: str) -> None:
    vocabulary.write_text(vocabulary.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        Rwkv6Tokenizer(str(vocabulary))


def test_a_file_that_is_cut_off_or_missing(vocabulary: Path, tmp_path: Path) -> None:
    lines = vocabulary.read_text(encoding="utf-8").splitlines(keepends=True)
    vocabulary.write_text("".join(lines[:100]), encoding="utf-8")
    with pytest.raises(UsageError, match=r"156 of the 256 bytes have no token, the first is 0x64"):
        Rwkv6Tokenizer(str(vocabulary))
    with pytest.raises(UsageError, match=r"RWKV vocabulary .*none.txt: no such file; put rwkv_vocab_v20230424.txt"):
        Rwkv6Tokenizer(str(tmp_path / "none.txt"))


def test_spaces_are_never_cleaned_up(vocabulary: Path) -> None:
    """Older directories say clean_up_tokenization_spaces: true, which would change the code of an answer."""
    tokenizer = Rwkv6Tokenizer(str(vocabulary), clean_up_tokenization_spaces=True)
    text = "if a , b . c do n't ?"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
