r"""Hostile texts for the graders: fixed baits and random mixes of them, up to 1 MB; used by graders.py --fuzz.

Each text is graded by every rule of both benchmarks, as a completion, as a prediction and as the gold answer. Printed:
the slowest ten and the peak memory of this process and its children (resident, shared pages counted in each).
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from sorsa.evaluation import gsm8k, math
from sorsa.evaluation.benchmark import Item

SEED = 0
LARGE = 1_000_000  # characters
PIECES = (
    " ", "\n", "\t", "0", "9", "1,", "1.", "1,234,", ".", "-", "- ", "+", "\\pm ", "1+", "1-", "\\frac", "\\frac{",
    "\\frac1", "\\dfrac{1}{", "\\sqrt", "\\sqrt[", "\\sqrt{", "{", "}", "{}", "(", ")", "((", "[", "]", "|", "|x",
    "\\{", "\\lbrace 1,", "$", "$$", "$a", "\\(", "\\)", "\\[", "\\]", "\\(a\\)", "\\text{", "\\text{a}", "\\text",
    "\\text ", "\\mbox{ ", "The answer is", "The answer is: ", "the ", "the final ", "the answer ",
    "the answer is: 5.\n", "####", "#### ", "#### 1", "\\boxed{", "\\boxed ", "\\boxed", "\\boxed{1}", "\\fbox{",
    "^", "^ ", "^{", "^\\circ", "^2", "^{2^", "_", "_{", "!", "(9!)!", "\\binom{", "\\binom99", "x", "xy", "x+",
    "x*", "sin ", "\\sin", "\\log_", "e^", "i", "=", "x=", "<", "\\le ", "\\cup ", "(1,2)\\cup ", "[1,2] U ", ", ",
    "or ", " and ", "1 or ", "%", "\\%", "\\$", "\u00b0", "\u2212", "\u221a", "\ud800", "\0", "\u00e9", "\u0663",
    "\\", "\\\\", "&", "\\begin{pmatrix}", "\\begin{", "\\end{pmatrix}", "\\left", "\\left(", "\\overline{",
    "0.\\overline{3}", ".\\overline{", "\\mathbb{R}", "\\mathbf{", "e9", "1e9", "*", "**", "**9", "/", "1/", "//",
    "9**", "9^", "x ", "18 ", "18 and ", "3 x 6 = ", "thousand ", "k",
    "__import__('os').system('touch /tmp/graders_fuzz')", "().__class__", "lambda:", "\\infty", "\\langle", "{,}",
    ",\\!", "\\!", "\\ ", "\\,", "\u00a0", "\u2009", "\\circ", "\\lim_",
)  # fmt: skip


def baits() -> Iterator[tuple[str, str]]:
    """Yield (name, text): every piece repeated to three lengths, and what is known to hurt evaluators."""
    for piece in PIECES:
        for size in (450, 4900, LARGE):  # below the limits of the opinion and of our parser, and the largest
            yield f"{piece!r} to {size}", (piece * (size // len(piece) + 1))[:size]
    depth = "(" * 2400 + "1" + ")" * 2400
    terms = "+".join(f"1/{n}^{{{7900 // n.bit_length()}}}" for n in range(3, 500))
    sets = "\\{" + ",".join("\\{" + ",".join(str(100 * i + j) for j in range(16)) + "\\}" for i in range(20)) + "\\}"
    yield from (
        ("tower", "9**9**9**9"), ("latex tower", "9^{9^{9^{9}}}"), ("python digits", "10**(10**8)"),
        ("depth", depth), ("big factorial", "(10^6)!"), ("factorials", "((9!)!)!"),
        ("many factorials", "5!!!!!!!!!!"), ("factorial sum", "+".join(["500!"] * 300)), ("fractions", terms),
        ("binomial", "\\binom{10^9}{5*10^8}"), ("binomials", "*".join(["\\binom{200}{100}"] * 60)),
        ("root", "\\sqrt[999999999]{2}"), ("roots", "\\sqrt[97]{2^{7919}}"),
        ("nested roots", "\\sqrt{" * 18 + "2+x" + "}" * 18),
        ("root sums", "+".join(f"\\sqrt{{{n}}}" for n in range(2, 90))), ("powers", "((x+y+z)^{99})^{99}"),
        ("power tower", "x^{x^{x^{x}}}"), ("exponentials", "e^{e^{e^{e^{9}}}}"),
        ("polynomial", "(x+1)^{999}-(x+2)^{999}"), ("equation", "(x+y+z+w)^{60}=(a+b+c+d)^{60}"), ("sets", sets),
        ("trigonometry", "\\sin(" * 15 + "x" + ")" * 15), ("signs", "x \\pm 1 \\pm 2 \\pm 3 \\pm 4"),
        ("logs", "\\log_{" * 12 + "2" + "}3" * 12),
        ("signs in a list", ",".join(["1 \\pm 2 \\pm 3 \\pm 4 \\pm 5"] * 60)),
        ("digits over digits", "\\frac{" + "7" * 1900 + "}{" + "3" * 1900 + "}"),
        ("spaces in a fraction", "\\frac{" + " " * 1900 + "1}{" + " " * 2000), ("exponent", "1e999999999"),
        ("small", "1e-1000" * 2), ("integral", "\\int_0^{10^9} x^{x} dx"), ("sum", "\\sum_{i=1}^{10^9} i^i"),
        ("product", "\\prod_{i=1}^{10^9} i"), ("limit", "\\lim_{x \\to 0} \\frac{\\sin x}{x^{99}}"),
        ("matrix", "\\begin{pmatrix}" + "1&" * 300 + "\\end{pmatrix}"),
        ("determinant", "\\det\\begin{pmatrix}" + "\\\\".join(["a&b&c&d&e&f&g&h"] * 8) + "\\end{pmatrix}"),
        ("matrix power", "\\begin{pmatrix}1&1\\\\1&0\\end{pmatrix}^{999999999}"),
        ("python", "__import__('os').system('touch /tmp/graders_fuzz')"),
        ("python in latex", "\\text{__import__('os').system('touch /tmp/graders_fuzz')}"),
        ("python class", "().__class__.__mro__[1].__subclasses__()"),
        ("union", "\\cup".join(f"({i},{i + 1})" for i in range(120))), ("mod", "9^{9^{9}} \\mod 7"),
        ("floor", "\\lfloor 9^{9^{9}} \\rfloor"),
    )  # fmt: skip


def mixes(count: int) -> Iterator[tuple[str, str]]:
    """Yield `count` random mixes of pieces, of lengths between 10 and a million characters."""
    chance = random.Random(SEED)
    for number in range(count):
        size = int(10 ** chance.uniform(1, 6))
        some = chance.choices(PIECES, k=chance.choice((2, 3, 5, 20, len(PIECES))))
        block = "".join(chance.choices(some, k=chance.choice((3, 30, 300))))
        yield f"mix {number}: {block[:40]!r}", (block * (size // len(block) + 1))[:size]


def _items(text: str) -> Iterator[Item]:
    for full in (text, f"The answer is: {text}", f"So $\\boxed{{{text}}}$", f"#### {text}"):
        yield Item(full, "so it is 5\n#### 5")
    yield Item(text, "5", extracted=True)
    yield Item(text, "x^2+\\sqrt{5}", extracted=True)  # makes the symbolic step work
    yield Item("x + 5", text, extracted=True)
    yield Item(text + "+0", text, extracted=True)
    yield Item(f"The answer is: {text}", f"\\boxed{{{text}x}}")


def _named(count: int, names: list[str]) -> Iterator[Item]:
    """Yield what is graded, and note the name of each when it is."""
    names.append("start of the child processes, not hostile")
    yield Item("\\sqrt{20}", "2\\sqrt{5}", extracted=True)
    for name, text in itertools.chain(baits(), mixes(count)):
        for index, item in enumerate(_items(text)):
            names.append(f"item {index}, {name[:70]}")
            yield item


class Memory(threading.Thread):
    """Watches the resident memory of this process and its descendants; `peak` is in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        """Look 50 times a second."""
        while True:
            self.peak = max(self.peak, _resident(os.getpid()))
            time.sleep(0.02)


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return 0
    return pages * 4096 + sum(_resident(int(child)) for child in children)


def fuzz(count: int) -> None:
    """Grade all baits and `count` mixes, and print the slowest answers and the peak memory."""
    memory = Memory()
    memory.start()
    times: list[tuple[float, str]] = []
    for module in (gsm8k, math):
        names: list[str] = []
        begin = time.monotonic()
        for _ in module.grade_all(_named(count, names)):  # one child process each, as in a real test
            times.append((time.monotonic() - begin, f"{module.__name__.split('.')[-1]}, {names[-1]}"))
            begin = time.monotonic()
    times.sort(reverse=True)
    print(f"fuzz: {len(times)} answers; peak memory {memory.peak / 2**20:.0f} MiB; slowest:")
    for seconds, name in times[:10]:
        print(f"    {seconds:6.2f} s  {name}")
    print(f"fuzz: side effects: {Path('/tmp/graders_fuzz').exists()}")
