"""The child process that compares expressions with sympy: `python -m sorsa.evaluation.symbolic_worker`.

A request is `{"mode", "a", "b"}` with nodes of `sorsa.evaluation.latex`, the reply `{"equal": bool}`. Nodes become
sympy objects one by one; no text is ever parsed or evaluated here. Time, memory and what the process may do are bounded
by `child_loop.py`.
"""

from __future__ import annotations

from typing import Any

import sympy
from sympy import Expr, Rational, Symbol

from sorsa.evaluation.child_loop import serve

MAX_BITS = 20_000  # of a rational power worked out exactly
MAX_FACTORIAL = 200
DIGITS = 40  # working precision of the numeric test
ZERO = sympy.Float("1e-25", 30)  # relative: 40 digits less what cancellation may cost
LONG = 40  # bits of a denominator; a decimal of more digits may come as near to an irrational number as it likes
# Fixed points, so that a verdict never depends on chance; of both signs, so that sqrt(x^2) is not x.
POINTS = ("1.7320508", "-0.7071067", "2.2360679")
_CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo}
_FUNCTIONS = {  # in MATH a logarithm without base is that to base 10
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "cot": sympy.cot, "sec": sympy.sec, "csc": sympy.csc,
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "sinh": sympy.sinh, "cosh": sympy.cosh,
    "tanh": sympy.tanh, "ln": sympy.log, "log": lambda a: sympy.log(a, 10), "exp": sympy.exp, "floor": sympy.floor,
    "ceil": sympy.ceiling,
}  # fmt: skip


class Refused(ValueError):
    """An expression outside what is compared, or beyond the bounds."""


def build(node: list[Any]) -> Expr:
    """Return the sympy expression of a node.

    Raises:
        Refused: Unknown kind of node, or a number too large to write out.
    """
    kind = node[0]
    if kind == "num":
        over, _, under = node[1].partition("/")
        return Rational(int(over), int(under or 1))
    if kind == "sym":
        return Symbol(node[1])
    if kind == "const":
        return _CONSTANTS[node[1]]
    if kind == "fn":
        if node[1] not in _FUNCTIONS:
            raise Refused(f"the function {node[1]}")
        return _FUNCTIONS[node[1]](build(node[2]))
    if kind not in _OPERATIONS:
        raise Refused(f"a {kind} inside an expression")
    return _OPERATIONS[kind](*(build(child) for child in node[1:]))


def _power(base: Expr, exponent: Expr) -> Expr:
    if base.is_Rational and exponent.is_Rational:
        bits = max(base.p.bit_length(), base.q.bit_length())
        if bits * abs(exponent.p) > MAX_BITS or exponent.q > MAX_BITS:
            raise Refused("a power with too many digits")
    return base**exponent


def _factorial(n: Expr) -> Expr:
    if n.is_Rational and (not n.is_Integer or not 0 <= n <= MAX_FACTORIAL):
        raise Refused("a factorial beyond the bounds")
    return sympy.factorial(n)


def _binomial(n: Expr, k: Expr) -> Expr:
    if any(x.is_Rational and abs(x) > MAX_FACTORIAL for x in (n, k)):
        raise Refused("a binomial beyond the bounds")
    return sympy.binomial(n, k)


_OPERATIONS = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "pow": _power,
    "root": lambda a, n: _power(a, 1 / n),
    "fact": _factorial,
    "binom": _binomial,
    "abs": sympy.Abs,
    "log": lambda base, a: sympy.log(a, base),
}


def is_zero(difference: Expr, scale: Expr) -> bool:
    """Tell whether an expression vanishes, to DIGITS digits at fixed points, by simplification where that fails.

    Args:
        difference: The expression.
        scale: One of the expressions compared; zero is judged relative to its size.
    """
    if difference == 0:
        return True
    symbols = sorted(difference.free_symbols | scale.free_symbols, key=str)
    for start in range(len(POINTS) if symbols else 1):
        values = {s: Rational(POINTS[(start + i) % 3]) * (1 + i // 3) for i, s in enumerate(symbols)}
        value = difference.subs(values).evalf(DIGITS)
        size = 1 + abs(scale.subs(values).evalf(DIGITS))
        if not value.is_number or not size.is_finite or value.is_finite is False:
            return sympy.simplify(difference) == 0
        if abs(value) > ZERO * size:
            return False
    return True


def equal(a: Expr, b: Expr) -> bool:
    """Tell whether two expressions are the same function of their symbols."""
    if any(side.has(sympy.zoo, sympy.nan) for side in (a, b)):
        return False  # 1/0 and 2/0 have no value to be equal
    if a == b:
        return True
    if a.is_infinite or b.is_infinite:
        return False  # equal infinities were caught above
    difference = a - b
    if any(number.q.bit_length() > LONG for number in a.atoms(Rational) | b.atoms(Rational)):
        return sympy.simplify(difference) == 0
    return is_zero(difference, b)


def same_equation(a: Expr, b: Expr) -> bool:
    """Tell whether `a = 0` and `b = 0` differ only by a constant factor other than zero."""
    if a == 0 or b == 0:
        return a == b
    if a.free_symbols != b.free_symbols:
        return False
    ratio = sympy.cancel(a / b)
    return not ratio.free_symbols and ratio.is_finite is not False and ratio != 0


def close(a: Expr, b: Expr) -> bool:
    """The authors' symbolic step: equal, or both real numbers within a relative 1e-3."""
    if equal(a, b):
        return True
    if a.free_symbols or b.free_symbols:
        return False
    x, y = a.evalf(15), b.evalf(15)
    if not (x.is_real and y.is_real and x.is_finite and y.is_finite):
        return False
    return bool(abs(x - y) <= max(abs(x), abs(y)) * Rational(1, 1000))


MODES = {"equal": equal, "equation": same_equation, "close": close}


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the reply to one request; raises what sympy raises."""
    return {"equal": bool(MODES[request["mode"]](build(request["a"]), build(request["b"])))}


if __name__ == "__main__":
    equal(sympy.sqrt(Symbol("x") ** 2 + 1), Symbol("y"))  # finish late imports before the first clock starts
    serve(answer)
