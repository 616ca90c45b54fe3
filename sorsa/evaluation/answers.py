"""Comparing two parsed answers, our rule: structure first, exact numbers next, symbolic equality last.

Brackets of intervals and tuples count; sets, lists and unions have no order; `x = 5` answers `5`; an inequality may be
written as the interval it describes; a +- stands for both values. Nothing is approximate.
"""

from __future__ import annotations

from sorsa.evaluation.exact import ARITHMETIC, exact_value
from sorsa.evaluation.latex import Node
from sorsa.evaluation.latex_tokens import Unreadable
from sorsa.evaluation.symbolic import SymbolicWorker

MAX_ITEMS = 60  # of an unordered list: matching is quadratic
MAX_SIGNS = 4  # +- in one expression: 2^4 values
_MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_NO_LABEL: Node = ["num", "0"]  # stands for a side that names nothing
_INFINITY: Node = ["const", "oo"]
_EXPRESSIONS = ARITHMETIC | {"abs", "binom", "fn", "log"}


def same_answer(answer: Node, gold: Node, worker: SymbolicWorker) -> bool:
    """Tell whether two answers are the same.

    Args:
        answer: Node of the prediction.
        gold: Node of the gold answer.
        worker: Compares what is not settled by structure or exact arithmetic.

    Raises:
        SymbolicTimeout, SymbolicError, OutOfBounds: The comparison could not be made.
    """
    if gold[0] not in ("rel", "list", "set"):
        answer = _worked_out(answer)
    answer, gold = (_without_label(node, _NO_LABEL) if node[:2] == ["rel", ["in"]] else node for node in (answer, gold))
    return _same(_normal(answer, gold), _normal(gold, answer), worker)


def _normal(node: Node, other: Node) -> Node:
    """Bring one side to the form of the other: labels dropped, inequalities as intervals, +- as a list."""
    if node[0] == "rel":
        node = _without_label(node, other)
    if node[0] == "rel" and other[0] in ("group", "union"):
        node = _interval(node) or node
    if node[0] == "list" and other[0] == "union":
        parts = [_interval(part) if part[0] == "rel" else part for part in node[1]]
        node = ["union", parts] if all(parts) else node
    if node[0] in ("list", "set"):
        names = [_names(node), _names(other)]  # `x=1, y=2` is not `x=2, y=1`, but `x=1 or x=2` is just `1, 2`
        drop = not all(names) or (names[0] == names[1] and len(names[0]) == 1)
        parts = [_without_label(part, _NO_LABEL) if drop or part[:2] != ["rel", ["="]] else part for part in node[1]]
        return [node[0], [value for part in parts for value in _signs(part)]]
    values = _signs(node)
    return values[0] if len(values) == 1 else ["list", values]


def _without_label(node: Node, other: Node) -> Node:
    """`x = 5`, `f(x) = 5`, `x \\in [1,2]` name the answer; drop the name where the other side has none."""
    if node[0] != "rel":
        return node
    if set(node[1]) == {"="} and other[0] != "rel" and (worked_out := _chain(node[2])) is not None:
        return worked_out
    if len(node[1]) != 1:
        return node
    (operator,), (left, right) = node[1], node[2]
    labelled = other[0] == "rel" and other[1] == [operator]
    return right if operator in ("=", "in") and _is_name(left) and not labelled else node


def _names(node: Node) -> list[Node]:
    """Return the different names that the parts of a list carry."""
    if node[0] not in ("list", "set"):
        return []
    found = [part[2][0] for part in node[1] if part[:2] == ["rel", ["="]] and _is_name(part[2][0])]
    return [name for index, name in enumerate(found) if name not in found[:index]]


def _worked_out(node: Node) -> Node:
    r"""Return the value of `m + n = 5`, `f(2) + f(3) = 5`, `\sin x = 1/2`; any other node is returned as it is.

    An equation for one unknown, such as `2x = 5`, names no value, and sides with different values are no chain.
    """
    if node[0] != "rel" or set(node[1]) != {"="}:
        return node
    *sides, last = node[2]
    values = {value for side in node[2] if (value := exact_value(side)) is not None}
    if _symbols(last) or not _is_expression(last) or len(values) > 1:
        return node
    return node if any(_is_equation_side(side) for side in sides) else last


def _is_equation_side(node: Node) -> bool:
    """Tell whether a side is arithmetic of one unknown, as in `2x` and `x^2 - 1`; `f(2) + f(3)` is not."""
    return len(_symbols(node)) == 1 and node[0] in ARITHMETIC and not _is_applied(node)


def _is_applied(node: Node) -> bool:
    """Tell whether every letter in a node stands before a bracket, as a function does."""
    if node[0] == "sym":
        return len(node) > 2
    return all(_is_applied(child) for child in node if isinstance(child, list) and child)


def _symbols(node: Node) -> set[str]:
    if node[0] == "sym":
        return {node[1]}
    return set().union(*(_symbols(child) for child in node if isinstance(child, list) and child))


def _chain(sides: list[Node]) -> Node | None:
    """Return the last side of `x = 7/2 = 3.5` or `7/2 = 3.5`; None where the sides are not numbers or not equal."""
    values = [exact_value(side) for side in (sides[1:] if _is_name(sides[0]) else sides)]
    return sides[-1] if values[0] is not None and len(set(values)) == 1 else None


def _is_name(node: Node) -> bool:
    """A letter, a word, `f(x)` or a tuple of names such as `(x, y)`."""
    if node[0] == "group":
        return all(_is_name(item) for item in node[2])
    return node[0] in ("sym", "text", "const") or (node[0] == "mul" and node[1][0] == node[2][0] == "sym")


def _interval(node: Node) -> Node | None:
    """Return the interval that an inequality in one variable describes, or None."""
    operators, sides = node[1], node[2]
    if any(operator not in _MIRROR for operator in operators):
        return None
    if len(operators) == 1 and (sides[0][0] == "sym") != (sides[1][0] == "sym"):
        operator, value = operators[0], sides[1]
        if sides[1][0] == "sym":
            operator, value = _MIRROR[operator], sides[0]
        closed = operator.endswith("=")
        if operator.startswith(">"):
            return ["group", "[" if closed else "(", [value, _INFINITY], ")"]
        return ["group", "(", [["neg", _INFINITY], value], "]" if closed else ")"]
    if len(operators) == 2 and sides[1][0] == "sym" and operators[0][0] == operators[1][0]:
        if operators[0][0] == ">":
            operators, sides = operators[::-1], sides[::-1]
        opener, closer = ("[" if operators[0].endswith("=") else "("), ("]" if operators[1].endswith("=") else ")")
        return ["group", opener, [sides[0], sides[2]], closer]
    return None


def _signs(node: Node) -> list[Node]:
    """Return the values of an expression with +-: one for each choice of signs."""
    values = [node]
    for _ in range(MAX_SIGNS + 1):
        if not any(_has_sign(value) for value in values):
            return values
        values = [_choose(value, plus) for value in values for plus in (True, False)]
    raise Unreadable("too many +- signs")


def _has_sign(node: Node) -> bool:
    return isinstance(node, list) and bool(node) and (node[0] == "pm" or any(_has_sign(child) for child in node))


def _choose(node: Node, plus: bool) -> Node:
    """Resolve the outermost, leftmost +- of a node; several in one answer are independent."""
    if not isinstance(node, list) or not node:
        return node
    if node[0] == "pm":
        right = node[2] if plus else ["neg", node[2]]
        return right if node[1] is None else ["add", node[1], right]
    for index, child in enumerate(node):
        if _has_sign(child):
            return [*node[:index], _choose(child, plus), *node[index + 1 :]]
    return node


def _same(a: Node, b: Node, worker: SymbolicWorker) -> bool:
    kinds = {a[0], b[0]}
    if kinds <= {"list", "set"}:
        return _same_items(a[1], b[1], worker)
    if kinds == {"union"}:
        return _same_items(a[1], b[1], worker)
    if kinds == {"group"}:
        return (a[1], a[3]) == (b[1], b[3]) and _in_order(a[2], b[2], worker)
    if kinds == {"matrix"}:
        return (
            a[2] == b[2]
            and len(a[1]) == len(b[1])
            and all(_in_order(x, y, worker) for x, y in zip(a[1], b[1], strict=True))
        )
    if kinds == {"rel"}:
        return _same_relation(a, b, worker)
    if kinds == {"base"}:
        return a == b
    if kinds == {"text"}:
        return plain_words(a[1]) == plain_words(b[1])
    if kinds & {"list", "set", "union", "group", "matrix", "rel", "base", "text"}:
        return False
    return _same_expression(a, b, worker)


def _in_order(a: list[Node], b: list[Node], worker: SymbolicWorker) -> bool:
    return len(a) == len(b) and all(_same(_normal(x, y), _normal(y, x), worker) for x, y in zip(a, b, strict=True))


def _same_items(a: list[Node], b: list[Node], worker: SymbolicWorker) -> bool:
    """Match two collections without order; equality is an equivalence, so the first match found is as good as any."""
    if len(a) != len(b) or len(a) > MAX_ITEMS:
        return False
    rest = list(b)
    for item in a:
        found = next((i for i, other in enumerate(rest) if _same(item, other, worker)), None)
        if found is None:
            return False
        del rest[found]
    return True


def _same_relation(a: Node, b: Node, worker: SymbolicWorker) -> bool:
    if a[1] == b[1] and _in_order(a[2], b[2], worker):
        return True
    if a[1] == ["="] and b[1] == ["="]:
        if _is_label(a) and _is_label(b):
            return False  # x = 5 and y = 5 both name a value; as equations they would differ too
        if not all(_is_expression(side) for node in (a, b) for side in node[2]):
            return False
        left, right = (["add", n[2][0], ["neg", n[2][1]]] for n in (a, b))
        return worker.compare("equation", left, right)
    mirrored = [_MIRROR.get(operator, operator) for operator in reversed(a[1])]
    return mirrored == b[1] and _in_order(a[2][::-1], b[2], worker)


def _is_label(node: Node) -> bool:
    return node[2][0][0] == "sym" and exact_value(node[2][1]) is not None


def _same_expression(a: Node, b: Node, worker: SymbolicWorker) -> bool:
    if a == b:
        return True
    x, y = exact_value(a), exact_value(b)
    if x is not None and y is not None:
        return x == y
    return _is_expression(a) and _is_expression(b) and worker.compare("equal", a, b)


def _is_expression(node: Node) -> bool:
    """Tell whether a node holds nothing but an expression: no tuple, set or word inside a product."""
    if node[0] in ("num", "sym", "const"):
        return True
    children = [child for child in node[1:] if isinstance(child, list)]
    return node[0] in _EXPRESSIONS and all(_is_expression(child) for child in children)


def plain_words(text: str) -> str:
    """Return words without case, spaces, brackets and punctuation: `(B)` is B, `East.` is east."""
    return "".join(letter for letter in text.casefold() if letter.isalnum())
