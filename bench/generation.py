"""Generation: ours against a loop of plain `generate` in data order with the same batch size; and kill -9 on the way.

    python bench/generation.py MODEL --questions gsm8k_test.jsonl --limit 200 --batch-size 16 --precision bf16
    python bench/generation.py MODEL --questions gsm8k_test.jsonl --limit 200 --max-new-tokens 64 --kill 5

Each variant runs in a process of its own, in turn: `plain`; `ours`, which writes the same tokens (no stop at the
answer); `shipped`, which stops where GSM-8K's answer is complete. Then a sample is answered again one question at a
time.
With --kill: a test through run.py is killed at random moments of its generation and started again, and every result
file is compared byte by byte with an undisturbed run's.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from sorsa.config import RunConfig
from sorsa.data.tokenise import prompt_ids
from sorsa.evaluation import gsm8k
from sorsa.evaluation.hf_engine import HfEngine
from sorsa.evaluation.row_cache import left_padded
from sorsa.evaluation.stopping import AnswerWatch
from sorsa.evaluation.subject import find_subject
from sorsa.evaluation.waves import WAVE, cut

RUN = Path(__file__).resolve().parent.parent / "run.py"
TIMES = {"generation_seconds", "grading_seconds", "tokens_per_second", "reused_completions", "environment"}


def settings(args: argparse.Namespace, precision: str, batch_size: int) -> RunConfig:
    """Return the settings of a test of the base model."""
    return RunConfig(
        name="bench", model=args.model, base=True, local=True, test_dataset="gsm-8k", test_file=args.questions,
        limit=args.limit, test_precision=precision, valid_batch_size=batch_size,
    )  # fmt: skip


def plain(engine: HfEngine, prompts: list[list[int]], args: argparse.Namespace) -> list[list[int]]:
    """Answer with `generate`, batch by batch in the order of the data set, and transformers' own attention."""
    model, ends, answers = engine._model, engine.ends, []
    model.set_attn_implementation("sdpa")  # transformers' default, which ours replaces on a CPU
    for start in tqdm(range(0, len(prompts), args.batch_size), desc="plain", unit="batch"):
        batch = prompts[start : start + args.batch_size]
        ids, mask = left_padded(batch, engine._pad, model.device)
        with torch.inference_mode():
            output = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=args.max_new_tokens)
        for new in output[:, ids.shape[1] :].tolist():
            end = next((place + 1 for place, token in enumerate(new) if token in ends), len(new))
            answers.append(new[:end])
    return answers


def ours(engine: HfEngine, prompts: list[list[int]], args: argparse.Namespace, stop: Any) -> list[list[int]]:
    """Answer as a test does, wave by wave."""
    answers: list[list[int]] = [[] for _ in prompts]
    with tqdm(total=len(prompts), desc="ours", unit="question") as bar:
        for wave in cut([len(prompt) for prompt in prompts]):
            watch = AnswerWatch(
                engine.tokenizer, gsm8k.complete if stop else None, [stop[i] for i in wave] if stop else wave
            )
            new = engine.answer([prompts[i] for i in wave], args.max_new_tokens, watch, bar.update)
            for index, ids in zip(wave, new, strict=True):
                answers[index] = ids
    return answers


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run one variant in this process: seconds, new tokens of each question, peak memory in GB."""
    torch.set_num_threads(args.threads)
    variant, precision, batch_size = args.only.split(":")
    config = settings(args, precision, int(batch_size))
    subject = find_subject(config)
    engine = HfEngine(config, subject, subject.load_tokenizer())
    engine.batch_size = engine.fit(0, None)
    questions = gsm8k.load(config)
    prompts = prompt_ids(engine.tokenizer, [one.prompt for one in questions])
    begin, cpu = time.perf_counter(), time.process_time()
    if variant == "plain":
        answers = plain(engine, prompts, args)
    else:
        answers = ours(engine, prompts, args, questions if variant == "shipped" else None)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_host_memory()
    return {"seconds": seconds, "cpu_seconds": cpu, "answers": answers, "peak_gb": peak / 1e9}


def peak_host_memory() -> int:
    """Return this program's peak memory in bytes; getrusage's figure would begin with the parent process's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def child(variant: str, args: argparse.Namespace, limit: int) -> dict[str, Any]:
    """Return what `measure` gives in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        words = [sys.executable, __file__, args.model, "--only", variant, "--output", str(output)]
        for name in ("questions", "max_new_tokens", "batch_size", "threads"):
            words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
        subprocess.run([*words, "--limit", str(limit)], check=True)
        return json.loads(output.read_text())


def compare(args: argparse.Namespace) -> None:
    """Measure the three variants in turn and print the table; then the sample with batch size 1."""
    found: dict[str, list[dict[str, Any]]] = {"plain": [], "ours": [], "shipped": []}
    for _ in range(args.repeat):
        for variant, results in found.items():
            results.append(child(f"{variant}:{args.precision}:{args.batch_size}", args, args.limit))
    first = {variant: results[0] for variant, results in found.items()}
    print(f"{args.limit} questions, batch size {args.batch_size}, {args.precision}, {args.threads} threads")
    for variant, results in found.items():
        tokens, plains = sum(map(len, first[variant]["answers"])), sum(map(len, first["plain"]["answers"]))
        seconds, peak = statistics.median(one["seconds"] for one in results), max(one["peak_gb"] for one in results)
        print(f"{variant:8} {seconds:8.1f} s  {tokens} tokens  {tokens / seconds:7.1f} tokens/s  peak {peak:.2f} GB")
        # the processor's time is what other work on the machine disturbs least
        for clock in ("seconds", "cpu_seconds"):
            ratios = [one[clock] / other[clock] for one, other in zip(found["plain"], results, strict=True)]
            faster = statistics.median(ratios)
            print(
                f"{'':8} by {clock}: {faster:.2f} x plain for the questions, {faster * tokens / plains:.2f} x per token"
            )
    print("answers of ours that are plain's, token for token:", same(first["ours"], first["plain"]))
    for precision in dict.fromkeys((args.precision, "fp32")):
        sample = {size: child(f"ours:{precision}:{size}", args, args.sample) for size in (args.batch_size, 1)}
        print(f"{precision}: answers that are those of batch size 1:", same(sample[args.batch_size], sample[1]))


def same(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Return how many answers agree, in words."""
    equal = sum(a == b for a, b in zip(one["answers"], other["answers"], strict=True))
    return f"{equal} of {len(one['answers'])} ({100 * equal / len(one['answers']):.1f}%)"


def kill(args: argparse.Namespace) -> None:
    """Kill a test at random moments, start it again each time, and compare its files with an undisturbed run's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bench.yaml").write_text("peft: sorsa\n")
        results = folder / "runs" / "bench" / "results"
        completions = results / "base-gsm-8k.completions.jsonl"
        begin, process = time.monotonic(), start(args, folder)
        while not completions.is_file() and process.poll() is None:
            time.sleep(0.05)
        loading = time.monotonic() - begin
        process.wait()
        wave = (time.monotonic() - begin - loading) / -(-args.limit // WAVE)  # seconds
        shutil.move(results, folder / "undisturbed")
        generator, done = random.Random(args.seed), 0
        while done < args.kill:
            process = start(args, folder)
            time.sleep(loading + generator.uniform(0, 2) * wave)  # in the first wave after a start, or the second
            if process.poll() is not None:
                raise SystemExit(f"the run ended before kill {done + 1}; take more questions or a larger model")
            process.kill()
            process.wait()
            done += 1
            print(
                f"kill {done}: {max(0, len(completions.read_text().splitlines()) - 1)} answers on the disk", flush=True
            )
        if start(args, folder).wait() != 0:
            raise SystemExit("the last restart failed")
        report(folder / "undisturbed", results)


def start(args: argparse.Namespace, folder: Path) -> subprocess.Popen[bytes]:
    """Start the test through run.py."""
    words = [sys.executable, str(RUN), "--test", "--name", "bench", "--config-dir", str(folder), "--base", "--local"]
    words += ["--run-path", str(folder / "runs"), "--model", args.model, "--test-dataset", "gsm-8k"]
    words += ["--test-file", args.questions, "--limit", str(args.limit), "--test-precision", args.precision]
    words += ["--max-new-tokens", str(args.max_new_tokens), "--valid-batch-size", str(args.batch_size)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL)


def report(one: Path, other: Path) -> None:
    """Print for each result file whether both runs wrote the same; exit with 1 where they did not."""
    names = sorted({path.name for path in (*one.iterdir(), *other.iterdir())})
    equal = {name: same_file(one / name, other / name) for name in names}
    for name, verdict in equal.items():
        print(f"{name}: {'the same' if verdict else 'DIFFERENT'}")
    raise SystemExit(not all(equal.values()))


def same_file(one: Path, other: Path) -> bool:
    """Return whether two files hold the same bytes; of the score record, fields that hold times do not count."""
    if not (one.is_file() and other.is_file()):
        return False
    if one.name != "base-gsm-8k.json":
        return one.read_bytes() == other.read_bytes()
    first, second = (json.loads(path.read_text()) for path in (one, other))
    return {k: v for k, v in first.items() if k not in TIMES} == {k: v for k, v in second.items() if k not in TIMES}


def main() -> None:
    """Parse the command line and run what it asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face model directory")
    parser.add_argument("--questions", required=True, help="GSM-8K's test rows, .jsonl")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp16", "fp32"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=1, help="measurements of each variant, in alternation")
    parser.add_argument("--sample", type=int, default=16, help="questions answered again with batch size 1")
    parser.add_argument("--kill", type=int, default=0, metavar="TIMES")
    parser.add_argument("--seed", type=int, default=0, help="of the moments to kill at")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        args.output.write_text(json.dumps(measure(args)))
    elif args.kill:
        kill(args)
    else:
        compare(args)


if __name__ == "__main__":
    main()
