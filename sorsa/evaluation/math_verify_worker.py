r"""The child process that asks math-verify: `python -m sorsa.evaluation.math_verify_worker`.

A request is `{"answer", "gold"}` (texts), the reply `{"equal": bool, "readable": bool}`. math-verify parses LaTeX with
a grammar, but numbers, plain sums and in places other text with sympy's `parse_expr`, which is Python's `eval`. So the
process is shut in by `child_loop.py` once everything is imported: the interpreter compiles nothing but arithmetic of
numbers and what sympy writes itself (`harmless`), so no other text can be evaluated; files, sockets and processes are
refused as well. Its own time-outs, which are Python signal handlers, are switched off: the kernel ends the process.
"""

from __future__ import annotations

import ast
import logging
import re
from typing import Any

from math_verify import parse, verify

from sorsa.evaluation.child_loop import serve

_WARM_UP = (
    (r"$\frac{1}{2}$", "$0.5$"), (r"$x=\sqrt{2}$", r"$\sqrt{2}$"), (r"$(1,2)$", "$[1,2)$"), ("$18$", "18 eggs"),
    (r"$\begin{pmatrix} 1 \\ 2 \end{pmatrix}$", r"$\begin{pmatrix} 1 \\ 3 \end{pmatrix}$"), ("$x<3$", r"$(-\infty,3)$"),
    (r"$\{1,2\}$", r"$\{x,3\}$"), ("$x^2-1$", "$(x-1)(x+1)$"), (r"$\sin x$", r"$\cos(x+i)$"), ("$x$", "$5!$"),
    ("$y = 2x + 3$", "$2y - 4x = 6$"), (r"$e^{i\pi}$", r"$\log_2 8$"), (r"$50\%$", r"$x \in [1,2] \cup (3,4)$"),
    (r"\frac{36}{2}", "3/4"), (r"$\text{east}$", "$|x-1|$"), (r"$\lfloor 2.5 \rfloor$", r"$1 \pm \sqrt 3$"),
)  # fmt: skip


# What sympy makes of numbers before it evaluates them; no other name, no attribute, no string but digits in quotes.
_NAMES = {"Integer", "Float", "Rational", "Add", "Mul", "Pow", "evaluate", "False", "e", "E"}
_ARITHMETIC = re.compile(r"[\d\s.()'+\-*/,=]*")
_IMPORT = "from sympy import *"  # of names that are loaded; parse_expr begins with it
# Sympy writes its functions for monomials in n symbols itself, with numbered names.
_MONOMIAL = re.compile(r"def monomial_\w+\([ABk, ]+\):\n(?:[abr]\d+|A|B|k|return|if|else|None|and|[\s()<>=+\-*,])*")


def harmless(source: Any) -> bool:
    """Tell whether a source that is about to be compiled is arithmetic of plain numbers, or sympy's own.

    Args:
        source: Text, bytes, or the syntax tree of one that was let through.
    """
    if isinstance(source, ast.AST):
        nodes = list(ast.walk(source))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        return names <= _NAMES and not any(isinstance(node, ast.Attribute | ast.Lambda) for node in nodes)
    text = source.decode("ascii", "replace") if isinstance(source, bytes) else source
    if not isinstance(text, str):
        return False
    names = set(re.findall(r"[^\W\d]\w*", text))
    if text == _IMPORT or _MONOMIAL.fullmatch(text):
        return True
    return names <= _NAMES and bool(_ARITHMETIC.fullmatch(re.sub(r"[A-Za-z]+", "", text)))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return what math-verify says of one answer; raises what it raises."""
    gold, target = (parse(request[key], parsing_timeout=None) for key in ("gold", "answer"))
    equal = verify(gold, target, timeout_seconds=None)
    return {"equal": bool(equal), "readable": any(not isinstance(part, str) for part in target)}


def warm_up() -> None:
    """Make both packages import what they import late: afterwards no file can be opened."""
    for gold, target in _WARM_UP:
        answer({"gold": gold, "answer": target})


if __name__ == "__main__":
    logging.disable()  # both packages warn about switched-off time-outs
    warm_up()
    serve(answer, harmless)
