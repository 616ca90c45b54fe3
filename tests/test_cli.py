"""The command line: the authors' flags, one mode, what is not given stays not given, and one line for every mistake."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sorsa import cli
from sorsa.config import RunConfig
from sorsa.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
AUTHORS_FLAGS = (
    "-p sorsa --model m --tokenizer k -n x -r 4 -l 64 -a 8 -g 0.1 -d 0.2 -t --train-dataset metamath --split [:100] "
    "--test-dataset math --test-precision fp16 --rwkv --mix-precision bf16 --mix-precision tf32 --grad-cp 0.5 "
    "--scheduler linear --warmup 0.1 --batch-size 3 --valid-batch-size 5 --epochs 2 --accum-step 7 --lr 1e-4 --wd 0.01 "
    "--svd-cache-path svd --run-path r --cache-path c --local --seed 1"
)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Replace every mode by one that notes its name and config; work in an empty directory with one config."""
    notes: dict[str, Any] = {}
    for place in ("training.train", "merging.merge", "evaluation.test", "adapters.export.export_run"):
        function = place.rpartition(".")[2]
        monkeypatch.setattr(f"sorsa.{place}", lambda config, name=function: notes.update(mode=name, config=config))
    monkeypatch.setattr("sorsa.evaluation.grade_file", lambda *given: notes.update(mode="grade", given=given))
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/x.yaml").write_text("model: m\ntrain_dataset: metamath\ntest_dataset: math\n", encoding="utf-8")
    return notes


@pytest.mark.parametrize(
    ("flags", "mode"),
    [
        ("-t", "train"),
        ("--train", "train"),
        ("-m", "merge"),
        ("--merge", "merge"),
        ("-T", "test"),
        ("--test", "test"),
        ("--export-lora", "export_run"),
    ],
)
def test_modes(called: dict, flags: str, mode: str) -> None:
    assert cli.main(["--name", "x", *flags.split()]) == 0
    assert called["mode"] == mode and called["config"].model == "m"


def test_every_flag_of_the_authors(called: dict) -> None:
    assert cli.main(AUTHORS_FLAGS.split()) == 0
    config: RunConfig = called["config"]
    expected = dict(
        peft="sorsa", model="m", tokenizer="k", name="x", rank=4, length=64, alpha=8.0, gamma=0.1, dropout=0.2,
        train_dataset="metamath", split="[:100]", test_dataset="math", test_precision="fp16", rwkv=True,
        mix_precision=["bf16", "tf32"], grad_clip=0.5, scheduler="linear", warmup=0.1, batch_size=3,
        valid_batch_size=5, epochs=2.0, accum_steps=7, lr=1e-4, wd=0.01, svd_cache_path="svd", run_path="r",
        cache_path="c", local=True, seed=1,
    )  # fmt: skip
    assert {key: getattr(config, key) for key in expected} == expected


@pytest.mark.parametrize("long", ["--peft sorsa --rank 3 --length 9 --alpha 2 --gamma 0 --dropout 0 --accum-steps 5"])
def test_long_spellings(called: dict, long: str) -> None:
    assert cli.main(["--name", "x", "--train", *long.split()]) == 0
    config = called["config"]
    assert (config.peft, config.rank, config.length, config.alpha, config.accum_steps) == ("sorsa", 3, 9, 2.0, 5)


def test_our_flags(called: dict) -> None:
    flags = (
        "--name x --train --decomposition exact --regularizer-form squared --regularizer-scaling paper "
        "--target-modules q_proj v_proj --truncation per_part --gradient-checkpointing --max-steps 3 --save-steps 2 "
        "--max-new-tokens 9 --limit 8 --grading-rule authors --allow-code-execution --overwrite --base "
        "--engine rwkv --decoding authors_rwkv --no-rwkv"
    )
    assert cli.main(flags.split()) == 0
    config = called["config"]
    assert (config.decomposition, config.regularizer_form, config.regularizer_scaling) == ("exact", "squared", "paper")
    assert (config.target_modules, config.truncation, config.max_steps) == (["q_proj", "v_proj"], "per_part", 3)
    assert (config.save_steps, config.max_new_tokens, config.limit, config.grading_rule) == (2, 9, 8, "authors")
    assert (config.engine, config.decoding, config.rwkv) == ("rwkv", "authors_rwkv", False)
    assert config.gradient_checkpointing and config.allow_code_execution and config.overwrite and config.base


def test_what_is_not_given_is_not_passed_on() -> None:
    assert cli.parse(["--name", "x", "--train"]) == ("train", {"name": "x"})
    assert cli.parse(["--name", "x", "-T", "--no-local"]) == ("test", {"name": "x", "local": False})


def test_a_closed_pipe_ends_quietly() -> None:
    code = "import os, sys; from sorsa import cli; cli.run = lambda *_: print('x' * int(os.environ['SIZE']))"
    code += "; sys.exit(cli.main())"
    for size in ("5", "500000"):  # noticed when the buffer is written at the end, and while printing
        read, write = os.pipe()
        os.close(read)
        words = [sys.executable, "-c", code, "--name", "x", "--train"]
        done = subprocess.run(
            words, stdout=write, stderr=subprocess.PIPE, text=True, check=False, env=os.environ | {"SIZE": size}
        )
        os.close(write)
        assert (done.returncode, done.stderr) == (cli.CLOSED_PIPE, "")


def test_a_flag_can_switch_off_what_the_yaml_switches_on(called: dict) -> None:
    Path("configs/on.yaml").write_text("model: m\ntrain_dataset: code\nlocal: true\n", encoding="utf-8")
    assert cli.main(["--name", "on", "--train", "--no-local"]) == 0
    assert called["config"].local is False


def test_grade(called: dict) -> None:
    Path("in.jsonl").write_text("{}\n", encoding="utf-8")
    words = "--grade in.jsonl --test-dataset math --output out.jsonl --rule authors"
    assert cli.main(words.split()) == 0
    assert called["given"] == (Path("in.jsonl"), "math", Path("out.jsonl"), "authors", False, False, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", r"no mode given: give exactly one of --train, --merge, --test, --export-lora, --grade"),
        ("--name x", r"no mode given"),
        ("--name x --train --merge", r"2 modes given \(--train, --merge\): give exactly one of"),
        ("--train", r"--name is missing\. Known: .*\bx\b"),
        ("--name x --trian", r"unknown flag '--trian'\. Did you mean '--train'\?"),
        ("--name x --train --btach-size=3", r"unknown flag '--btach-size=3'\. Did you mean '--batch-size'\?"),
        ("x --train", r"unexpected word 'x': every setting is a flag\. Did you mean '--name x'\?"),
        ("--name x --train --rank", r"argument -r/--rank: expected one argument"),
        ("--name x --train --rank -3", r"configuration 'x': --rank = '-3': must be at least 1"),
        ("--name x --train --peft srosa", r"peft = 'srosa': unknown method\. Did you mean 'sorsa'"),
        ("--name y --train", r"no configuration 'y': configs/y.yaml does not exist\."),
        ("--name ../x --train", r"name = '\.\./x': must be letters, digits"),
        ("--name x --train --config-dir no", r"--config-dir 'no': no such directory"),
        (
            "--name x --train --output o",
            r"--output belongs to --grade and --compare-runs and --theory and --report, not to --train",
        ),
        ("--name x --test --test-dataset gsm8k", r"test_dataset = 'gsm8k': unknown\. Did you mean 'gsm-8k'"),
        ("--grade", r"argument --grade: expected one argument"),
        ("--grade no.jsonl", r"test_dataset is missing: .*; --grade no\.jsonl: no such file; --output is missing"),
        ("--grade a --limit 1 --test-dataset math", r"--limit does not go with --grade, only --test-dataset, --output"),
        (
            "--name x --regrade --engine vllm",
            r"--engine does not go with --regrade, which generates nothing: use --test",
        ),
        (
            "--grade configs/x.yaml --test-dataset math --output o --rule mine",
            r"'mine' is unknown\. Known: authors, ours",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    called: dict, capsys: pytest.CaptureFixture, words: str, message: str
) -> None:
    assert cli.main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert re.search(message, err), err
    assert called == {}


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Callable[[], int]:
    """Return a call of main whose mode raises `error`."""

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "run", fail)
    return lambda: cli.main(["--name", "x", "--train"])


def test_control_c_says_how_to_continue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert failing(monkeypatch, KeyboardInterrupt())() == 130
    assert capsys.readouterr().err == "stopped: the same command again goes on from what is saved\n"


def wrapped_full_disk(outer: type[Exception]) -> Exception:
    """Return an exception that was raised because of a full disk, as datasets' and ours are."""
    error = outer("could not write")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "runs/x")
    return error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "runs/x/model.safetensors"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        wrapped_full_disk(RuntimeError),
    ],
)
def test_a_full_disk_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, error: Exception
) -> None:
    assert failing(monkeypatch, error)() == 2
    err = capsys.readouterr().err
    assert err.startswith("error: no space left on the disk") and err.count("\n") == 1


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.EISDIR])
def test_a_place_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, number: int
) -> None:
    assert failing(monkeypatch, OSError(number, "is the reason", "runs/x"))() == 2
    assert capsys.readouterr().err == "error: runs/x: is the reason\n"


def test_a_line_of_ours_about_the_full_disk_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Training says which checkpoint is complete; the general line does not know that."""
    assert failing(monkeypatch, wrapped_full_disk(UsageError))() == 2
    assert capsys.readouterr().err == "error: could not write\n"


def test_an_error_that_is_its_own_cause(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    inner, outer = UsageError("line 7 is not JSON"), RuntimeError("while generating")
    outer.__cause__, inner.__context__ = inner, outer
    assert failing(monkeypatch, inner)() == 2
    assert capsys.readouterr().err == "error: line 7 is not JSON\n"


def test_a_missing_dependency_points_to_setup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert failing(monkeypatch, ModuleNotFoundError("No module named 'torch'", name="torch.nn"))() == 2
    assert "the package 'torch' is not installed in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [KeyError("k"), OSError(errno.EACCES, "denied"), ModuleNotFoundError("x", name="sorsa.x")]
)
def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(type(error)):
        failing(monkeypatch, error)()


def test_help_names_every_setting(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as done:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert done.value.code == 0
    for name in RunConfig.__dataclass_fields__:
        assert "--" + name.replace("_", "-") in text, name
    for words in ("sorsa, lora", "metamath, code", "gsm-8k, math, humaneval", "--accum-step ", "--grad-cp "):
        assert words in text, words


def test_run_py_from_another_directory(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "run.py"), "--name", "llama2_sorsa_r12", "--train"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'llama2_sorsa_r128'?" in done.stderr and "Traceback" not in done.stderr


def test_the_readme_commands_of_the_authors(called: dict) -> None:
    for dataset in ("gsm-8k", "math", "humaneval"):
        words = f"--name x --test --test-dataset {dataset} --test-precision bf16 --rwkv"
        assert cli.main(words.split()) == 0
        assert (called["config"].test_dataset, called["config"].rwkv) == (dataset, True)
