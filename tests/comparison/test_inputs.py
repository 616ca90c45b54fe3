"""What is wrong with --compare is said in one line before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sorsa import cli
from sorsa.errors import UsageError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "other"}, r"^--compare: model differs: '.*model' in d_a, 'other' in d_b; scores can only be"),
        ({"split": "[:9]"}, r"^--compare: split differs: '' in d_a, '\[:9\]' in d_b"),
        ({"max_steps": 5}, r"^--compare: max_steps differs: 4 in d_a, 5 in d_b"),
        ({"batch_size": 4}, r"^--compare: batch_size x accum_steps differs: 128 in d_a, 256 in d_b"),
        ({"seed": 1}, r"^--compare: seed differs: 42 in d_a, 1 in d_b"),
        ({"limit": 3}, r"^--compare: limit differs: None in d_a, 3 in d_b"),
        ({"valid_file": "test.jsonl", "lr_grid": [1e-3]}, r"^--compare: valid_file differs: 'valid.jsonl' in d_a, '"),
        ({"valid_file": None, "lr_grid": [1e-3]}, r"^configuration 'd_b': valid_file is missing: lr_grid needs"),
        ({"test_dataset": None}, r"^configuration 'd_b': test_dataset is missing: write one of gsm-8k, "),
        ({"test_dataset": "gsm8k"}, r"^configuration 'd_b': test_dataset = 'gsm8k': unknown\. Did you mean 'gsm-8k'"),
        ({"test_file": "no.jsonl"}, r"^configuration 'd_b': test_file = 'no.jsonl': no such file"),
        ({"valid_file": "no.jsonl"}, r"^configuration 'd_b': valid_file = 'no.jsonl': no such file"),
        ({"lr_grid": ["high"]}, r"^configuration 'd_b': lr_grid = \['high'\] .*: must be a list of finite numbers"),
        ({"rank": 17}, r"^configuration 'd_b': rank = 17: above the smaller side of .*k_proj \(16 x 32\)"),
        ({"target_modules": ["c_attn"]}, r"^configuration 'd_b': .*c_attn.*matches no module"),
        ({"peft": "lroa"}, r"^configuration 'd_b': peft = 'lroa': unknown method\. Did you mean 'lora'\?"),
        ({"gamma": 0.1}, r"^configuration 'd_b': gamma .*: the method 'lora' has no such setting"),
    ],
)
def test_a_configuration_that_does_not_fit(bench, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bench.compare(bench.write("d_a", lr_grid=[1e-3, 2e-3]), bench.write("d_b", **settings))
    assert bench.calls() == [] and not Path("out").exists()


def test_the_batch_may_be_split_differently(bench) -> None:
    files = [bench.write("d_a", batch_size=2, accum_steps=2), bench.write("d_b", batch_size=4, accum_steps=1)]
    assert len(bench.compare(*files, seeds=1)["methods"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("configs/*.yaml", r"--compare configs/\*\.yaml: no such file"),
        ("configs", r"--compare configs: no such file"),
        ("test.jsonl", r"--compare test\.jsonl: not a configuration; their files end in \.yaml"),
        ("configs/list.yaml", r"configs/list\.yaml: must hold `setting: value` lines, not list"),
        ("configs/d.yaml configs/d.yaml", r"--compare: 2 configurations are called 'd' \(configs/d\.yaml, configs/d"),
        ("configs/d.yaml more/d.yaml", r"--compare: 2 configurations are called 'd' \(configs/d\.yaml, more/d\.yaml\)"),
        ("configs/d.yaml --seeds 0", r"--seeds 0: must be at least 1"),
        ("configs/d.yaml --seeds two", r"argument --seeds: invalid int value: 'two'"),
        ("configs/d.yaml --name ../d", r"name = '\.\./d': must be letters, digits"),
        ("configs/d.yaml --batch-size 4", r"--batch-size does not go with --compare: the settings are those of"),
        ("configs/text.yaml", r"--compare needs answers in words, and perplexity has none"),
        ("configs/code.yaml", r"humaneval runs code written by a model on this machine"),
    ],
)
def test_a_mistake_on_the_command_line(bench, capsys, words: str, message: str) -> None:
    bench.write("d")
    bench.write("d", folder="more")
    bench.write("text", test_dataset="perplexity")
    bench.write("code", test_dataset="humaneval", test_file=None)
    Path("configs/list.yaml").write_text("- a\n- b\n")
    assert cli.main(["--compare", *words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error)


def test_choosing_on_the_tests_questions(bench, questions) -> None:
    questions("valid.jsonl", range(6, 20))  # 6 and 7 are the test's too
    with pytest.raises(UsageError, match=r"^valid_file = 'valid\.jsonl': 2 of its questions are also the test's"):
        bench.compare(bench.write("d", lr_grid=[1e-3]))


def test_a_broken_question_file_is_found_before_training(bench) -> None:
    Path("valid.jsonl").write_text('{"query": "1 + 1?", "response": "2"}\n')
    with pytest.raises(UsageError, match=r"^valid\.jsonl, line 1: the column 'question' must hold text"):
        bench.compare(bench.write("d", lr_grid=[1e-3]))
    assert bench.calls() == []


def test_adaloras_schedule_is_checked_against_the_steps(bench) -> None:
    file = bench.write("d", peft="adalora", t_init=3, t_final=3)
    with pytest.raises(UsageError, match=r"^configuration 'd': .*t_final"):
        bench.compare(file)


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("demo_sorsa_r16", "demo_full"), "demo"), (("one_lora_r4",), "one_lora_r4"), (("a_x", "b_x"), "methods")],
)
def test_the_comparisons_own_name(bench, names: tuple, expected: str) -> None:
    assert bench.compare(*(bench.write(name) for name in names), seeds=1)["name"] == expected
