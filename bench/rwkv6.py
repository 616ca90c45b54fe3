"""RWKV6 measured: speed and memory of training, decoding, agreement with the `rwkv` runtime, the tokenizer.

    OMP_NUM_THREADS=1 python bench/rwkv6.py train        # 4 layers, width 512, 4 x 512 tokens, all parameters
    OMP_NUM_THREADS=1 python bench/rwkv6.py decode       # tokens per second after contexts of different lengths
    python bench/rwkv6.py parity                         # logits beside the runtime's, three shapes, 200 tokens
    python bench/rwkv6.py tokenizer                      # 10 MB of mixed text, beside the runtime's tokenizer

Times are of the processor (`time.process_time`), with one thread: other programs on the machine take turns with this
one and disturb them less than a clock on the wall. Variants are stepped in turn, so that all meet the same machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from sorsa.rwkv6 import mixing, wkv
from sorsa.rwkv6.configuration import Rwkv6Config
from sorsa.rwkv6.convert import convert
from sorsa.rwkv6.modeling import Rwkv6ForCausalLM
from sorsa.rwkv6.tokenizer import Rwkv6Tokenizer

SHAPES = (
    {"num_hidden_layers": 2, "hidden_size": 128, "head_size": 64, "vocab_size": 512},
    {"num_hidden_layers": 7, "hidden_size": 256, "head_size": 64, "vocab_size": 1000},
    {"num_hidden_layers": 4, "hidden_size": 192, "head_size": 32, "vocab_size": 300},
)
Recurrence = Callable[..., tuple[Tensor, Tensor]]


def loop(r: Tensor, k: Tensor, v: Tensor, lw: Tensor, u: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """The recurrence token by token, differentiated by autograd."""
    return wkv.recurrent(r, k, v, lw, u, _zeros(r) if s is None else s)


def left_out(r: Tensor, k: Tensor, v: Tensor, lw: Tensor, u: Tensor, s: Tensor | None) -> tuple[Tensor, Tensor]:
    """No recurrence: the ceiling. Gradients still reach every matrix."""
    return r + k + v + lw, _zeros(r)


def _zeros(r: Tensor) -> Tensor:
    return r.new_zeros(r.shape[0], r.shape[2], r.shape[3], r.shape[3])


FORMS: dict[str, Recurrence] = {"chunked": wkv.wkv, "loop": loop, "left out": left_out}


def speed_model(device: str) -> Rwkv6ForCausalLM:
    """Return the model whose speed is measured."""
    torch.manual_seed(0)
    config = Rwkv6Config(vocab_size=2048, hidden_size=512, num_hidden_layers=4, head_size=64)
    return Rwkv6ForCausalLM(config).to(device)


def training_step(model: Rwkv6ForCausalLM, form: str, tokens: Tensor) -> float:
    """Run forward and backward with one form of the recurrence; return processor seconds (on a GPU: seconds)."""
    mixing.wkv = FORMS[form]
    clock = time.perf_counter if tokens.is_cuda else time.process_time
    start = clock()
    model(input_ids=tokens, labels=tokens).loss.backward()
    if tokens.is_cuda:
        torch.cuda.synchronize()
    model.zero_grad()
    return clock() - start


def measure_training(args: argparse.Namespace) -> None:
    """Print tokens per second of every form, ratios taken round by round, and peak memory in processes of their own."""
    model = speed_model(args.device).train()
    tokens = torch.randint(2048, (args.batch, args.length)).to(args.device)
    if args.only:
        for _ in range(2):
            training_step(model, args.only, tokens)
        print(json.dumps({"peak_gb": _peak_memory(args.device) / 1e9}))
        return
    seconds: dict[str, list[float]] = {form: [] for form in FORMS}
    for round_ in range(args.rounds + 1):
        for form, found in seconds.items():
            elapsed = training_step(model, form, tokens)
            if round_:
                found.append(elapsed)
    for form, found in seconds.items():
        rates = sorted(tokens.numel() / one for one in found)
        times = statistics.median(o / c for o, c in zip(found, seconds["chunked"], strict=True))
        print(
            f"{form:9} {statistics.median(rates):7.0f} tokens/s ({rates[0]:.0f} to {rates[-1]:.0f}), "
            f"time / chunked {times:.2f}",
            flush=True,
        )
    for form in FORMS:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", form]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"{form:9} peak memory {json.loads(output.splitlines()[-1])['peak_gb']:.2f} GB", flush=True)


def _peak_memory(device: str) -> int:
    """Return this program's peak memory in bytes; getrusage's figure would begin with the parent process's."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


@torch.inference_mode()
def measure_decoding(args: argparse.Namespace) -> None:
    """Print tokens per second of greedy decoding after contexts of different lengths, and the state's size."""
    model = speed_model(args.device).eval()
    states = {}
    for length in (16, 512, 2048, 8192):
        output = model(torch.randint(2048, (1, length)).to(args.device), use_cache=True, logits_to_keep=1)
        states[length] = (output.state, output.logits[:, -1].argmax(-1, keepdim=True))
    seconds: dict[int, list[float]] = {length: [] for length in states}
    for _ in range(args.rounds):
        for length, (state, token) in states.items():
            start = time.process_time()
            for _ in range(100):
                output = model(token, state=state, use_cache=True)
                state, token = output.state, output.logits[:, -1].argmax(-1, keepdim=True)
            seconds[length].append(time.process_time() - start)
    for length, found in seconds.items():
        size = sum(tensor.nbytes for layer in states[length][0].layers for tensor in layer)
        print(f"after {length:5} tokens: {100 / statistics.median(found):6.1f} tokens/s, state {size} bytes")


@torch.inference_mode()
def measure_parity(args: argparse.Namespace) -> None:
    """Print the largest differences of logits between our model and the runtime, on random FP32 checkpoints."""
    os.environ.update(RWKV_CUDA_ON="0", RWKV_JIT_ON="0")
    from rwkv.model import RWKV

    for seed, sizes in enumerate(SHAPES):
        model = random_model(seed, sizes)
        ids = torch.randint(sizes["vocab_size"], (200,)).tolist()
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(f"{folder}/hf")
            convert(f"{folder}/hf", f"{folder}/model.pth")
            with contextlib.redirect_stdout(io.StringIO()):
                runtime = RWKV(model=f"{folder}/model.pth", strategy="cpu fp32")
        whole, _ = runtime.forward(ids, None, full_output=True)
        chunked = model(torch.tensor([ids])).logits[0]
        state, theirs, steps = None, None, 0.0
        for token in ids:
            expected, theirs = runtime.forward([token], theirs)
            output = model(torch.tensor([[token]]), state=state, use_cache=True)
            state, steps = output.state, max(steps, _distance(output.logits[0, 0], expected))
        exact = model.double()(torch.tensor([ids])).logits[0]
        print(
            f"{sizes}\n  to the runtime: chunked {_distance(chunked, whole):.1e}, step by step {steps:.1e}; to FP64: "
            f"chunked {_distance(chunked, exact):.1e}, the runtime {_distance(whole, exact):.1e}; "
            f"largest logit {exact.abs().max():.2f}"
        )


def _distance(left: Tensor, right: Tensor) -> float:
    """Return the largest absolute difference."""
    return (left.double() - right.double()).abs().max().item()


def random_model(seed: int, sizes: dict[str, int]) -> Rwkv6ForCausalLM:
    """Return a model whose raw parameters are spread so widely that all of them matter."""
    torch.manual_seed(seed)
    model = Rwkv6ForCausalLM(Rwkv6Config(**sizes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("time_decay"):
                parameter.uniform_(-6, 2)
            elif "_w1" in name or "_w2" in name:
                parameter.normal_(std=parameter.shape[-2] ** -0.5)
            elif "time_" in name:
                parameter.normal_(std=0.5)
    return model.eval()


def measure_tokenizer(args: argparse.Namespace) -> None:
    """Print whether our ids are the reference's on 10 MB of mixed text, and both speeds."""
    import rwkv
    from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

    file = str(Path(rwkv.__path__[0]) / "rwkv_vocab_v20230424.txt")
    reference, ours = TRIE_TOKENIZER(file), Rwkv6Tokenizer(file)
    texts = list(mixed_texts(ours, 10_000_000))
    size = sum(len(text.encode()) for text in texts) / 1e6
    begin = time.process_time()
    expected = [reference.encode(text) for text in texts]
    middle = time.process_time()
    found = ours(texts)["input_ids"]
    end = time.process_time()
    back = sum(ours.decode(ids) == text for ids, text in zip(found, texts, strict=True))
    same = sum(left == right for left, right in zip(found, expected, strict=True))
    print(f"{len(texts)} texts, {size:.1f} MB, {sum(map(len, found))} tokens: {same} equal, {back} come back")
    print(f"reference {size / (middle - begin):.2f} MB/s, ours {size / (end - middle):.2f} MB/s")


def mixed_texts(tokenizer: Rwkv6Tokenizer, size: int) -> Iterator[str]:
    """Yield texts of `size` bytes in all: Python's sources, words of the vocabulary (all languages), emoji, noise."""
    generator = random.Random(0)
    sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    while size > 0:
        kind = generator.random()
        if kind < 0.4:
            source = generator.choice(sources).read_text(encoding="utf-8", errors="replace")
            start = generator.randrange(max(1, len(source) - 3000))
            text = source[start : start + generator.randrange(1, 3000)]
        elif kind < 0.8:
            text = tokenizer.decode(generator.choices(range(1, 65530), k=generator.randrange(1, 600)))
        elif kind < 0.9:
            text = "".join(chr(generator.randrange(0x1F300, 0x1FAFF)) for _ in range(generator.randrange(1, 200)))
        else:
            text = bytes(generator.choices(range(256), k=generator.randrange(1, 2000))).decode("latin-1")
        size -= len(text.encode())
        yield text


def main() -> None:
    """Parse the command line and measure."""
    measures = {
        "train": measure_training,
        "decode": measure_decoding,
        "parity": measure_parity,
        "tokenizer": measure_tokenizer,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=measures)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (train: after one more to warm up)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=FORMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    measures[args.what](args)


if __name__ == "__main__":
    main()
