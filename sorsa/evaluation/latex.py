r"""Reading a mathematical answer: a recursive-descent parser from a subset of LaTeX to plain nested lists.

No `sympify`, `parse_expr` or `eval` anywhere: text from a model only ever becomes data. Nodes, with `e` an expression:
    ["num", "p/q"]  ["sym", name]  ["const", "pi" | "e" | "i" | "oo"]  ["text", words]  ["base", digits, base]
    ["add", e, e]  ["mul", e, e]  ["div", e, e]  ["neg", e]  ["pow", e, e]  ["fact", e]  ["abs", e]  ["pm", e | None, e]
    ["root", e, n]  ["binom", e, e]  ["fn", name, e]  ["log", base, e]  ["sym", name, "("] where a bracket follows
around expressions: ["group", "(", [e, ...], "]"] (tuple or interval), ["set" | "list" | "union", [e, ...]],
["rel", [op, ...], [e, ...]], ["matrix", [[e, ...], ...], kind].
"""

from __future__ import annotations

from typing import Any

from sorsa.evaluation.exact import decimal
from sorsa.evaluation.latex_matrix import matrix
from sorsa.evaluation.latex_tokens import CLOSERS, CONSTANTS, RELATIONS, Cursor, Token, Unreadable, clean, tokenise

Node = list[Any]
MAX_DEPTH = 40  # nesting of brackets, fractions and exponents; Python's own recursion limit is never near


def parse(text: str) -> Node:
    """Parse one answer.

    Args:
        text: The answer as written, with or without dollar signs.

    Returns:
        A node as listed at the top of this file.

    Raises:
        Unreadable: Outside the subset, too long or too deep.
        OutOfBounds: A number beyond all bounds.
    """
    parser = Parser(tokenise(clean(text)))
    try:
        node = parser.answer()
    except RecursionError as error:  # a thousand minus signs
        raise Unreadable("nested too deeply") from error
    if parser.peek() is not None:
        raise Unreadable(f"cannot go on at {parser.peek()[1]!r}")
    return node


class Parser(Cursor):
    """One pass over the tokens; each method reads one level of precedence."""

    def __init__(self, tokens: list[Token]) -> None:
        super().__init__(tokens)
        self.depth = self.bars = 0

    def answer(self) -> Node:
        """`a, b and c` at the top level: one part, or a list without order."""
        parts = [self.relation()]
        while self.separator():
            parts.append(self.relation())
        return parts[0] if len(parts) == 1 else ["list", parts]

    def separator(self) -> bool:
        """Consume commas, semicolons and the words `or` and `and`; tell whether there was any."""
        found = False
        while self.take(",", ";") or self.word("or", "and"):
            found = True
        return found

    def relation(self) -> Node:
        """`1 < x <= 3`: sides and the signs between them."""
        sides, operators = [self.union()], []
        while (operator := self.take(*RELATIONS)) is not None:
            operators.append(RELATIONS[operator])
            sides.append(self.union())
        return ["rel", operators, sides] if operators else sides[0]

    def union(self) -> Node:
        """Sets joined by a cup."""
        parts = [self.sum()]
        while self.take("cup"):
            parts.append(self.sum())
        return ["union", parts] if len(parts) > 1 else parts[0]

    def sum(self) -> Node:
        """Terms with +, - or +- between them."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        sign = self.take("-", "+", "pm", "mp")
        node = self.product()
        if sign == "-":
            node = ["neg", node]
        elif sign in ("pm", "mp"):
            node = ["pm", None, node]
        while (operator := self.take("+", "-", "pm", "mp")) is not None:
            right = self.product()
            if operator in ("pm", "mp"):
                node = ["pm", node, right]
            else:
                node = ["add", node, right if operator == "+" else ["neg", right]]
        self.depth -= 1
        return node

    def product(self) -> Node:
        """Factors, with or without a sign of multiplication, and words of unit after them."""
        node = self.factor()
        while True:
            if self.take("*", "cdot", "times"):
                node = ["mul", node, self.factor()]
            elif self.take("/", "div"):
                node = ["div", node, self.factor()]
            elif self.starts_factor():
                node = self.juxtapose(node)
            elif not self.unit():
                return node

    def juxtapose(self, node: Node) -> Node:
        r"""`2x` is a product; `1\frac{4}{5}` and `137 1/2` are mixed numbers."""
        before, start = self.peek(-1), self.at
        digits = before is not None and before[0] == "num" and before[1].isdigit() and node[0] == "num"
        if digits and self.peek()[0] == "num":
            mixed = [t[1] if t else "" for t in (self.peek(), self.peek(1), self.peek(2))]
            if mixed[1] == "/" and mixed[0].isdigit() and mixed[2].isdigit() and int(mixed[2]):
                self.at += 3
                return ["add", node, ["div", ["num", mixed[0]], ["num", mixed[2]]]]
            raise Unreadable("two numbers side by side")
        right = self.factor()
        if (
            digits
            and self.tokens[start] == ("cmd", "frac")
            and right[0] == "div"
            and right[1][0] == right[2][0] == "num"
        ):
            return ["add", node, right]
        return ["mul", node, right]

    def starts_factor(self) -> bool:
        """Tell whether the next token can stand right after a factor, as in `2x`."""
        token = self.peek()
        if token is None:
            return False
        kind, value = token
        if kind == "cmd":
            return value in ("frac", "sqrt", "binom", "pi", "infty", "begin", "lvert", "lfloor", "lceil", "lbrace")
        return kind in ("num", "sym", "fn") or (kind == "op" and value in "({[") or (value == "|" and not self.bars)

    def unit(self) -> bool:
        """Skip words after a value: `15 cm^2` is 15."""
        if not self.unit_word():
            return False
        if self.take("^"):
            self.argument()
        return True

    def factor(self) -> Node:
        """An atom with its sign, exponents and factorials."""
        if self.take("-"):
            return ["neg", self.factor()]
        self.take("+")
        node = self.atom()
        while True:
            if self.take("^"):
                node = ["pow", node, self.argument()]
            elif self.take("!"):
                node = ["fact", node]
            else:
                return node

    def argument(self) -> Node:
        """What stands after `^`: a group in braces, or one atom with its sign."""
        if self.take("{"):
            node = self.sum()
            self.expect("}")
            return node
        return ["neg", self.atom()] if self.take("-") else self.atom()

    def single(self) -> Node:
        r"""One argument as TeX takes it: a group in braces, or one digit (`\frac12`), or one atom."""
        token = self.peek()
        if token and token[0] == "num" and len(token[1]) > 1 and token[1].isdigit():
            self.tokens[self.at] = ("num", token[1][1:])
            return ["num", token[1][0]]
        return self.argument()

    def atom(self) -> Node:
        """The smallest part: a number, a letter, a function, a bracket or a command."""
        self.depth += 1
        token = self.peek()
        if token is None or self.depth > MAX_DEPTH:
            raise Unreadable("ends too early" if token is None else "nested too deeply")
        self.at += 1
        kind, value = token
        if kind == "num":
            node = self.number(value)
        elif kind == "sym":
            node = self.symbol(value)
        elif kind == "fn":
            node = self.function(value)
        elif kind == "text":
            node = ["text", value]
        else:
            node = self.special(value)
        self.depth -= 1
        return node

    def number(self, value: str) -> Node:
        """A decimal, or digits with a base below them."""
        if self.take("_"):
            base = self.argument()
            if base[0] != "num":
                raise Unreadable("a number with a symbol below it")
            return ["base", value.lstrip("0") or "0", base[1]]
        return ["num", value if "/" in value else str(decimal(value))]

    def symbol(self, name: str) -> Node:
        """A letter, with its index if it has one; `e` and `i` are constants."""
        if self.take("_"):
            index = self.argument()
            name = f"{name}_{index[1] if index[0] in ('num', 'sym', 'const') else index}"
        elif name in ("e", "i"):
            return ["const", name]
        return ["sym", name, "("] if self.peek() == ("op", "(") else ["sym", name]

    def function(self, name: str) -> Node:
        """`sin^2 x`, `log_2 8`, `ln(x)`: without brackets the argument is the product that follows."""
        base = self.argument() if name == "log" and self.take("_") else None
        exponent = self.argument() if self.take("^") else None
        token = self.peek()
        if token and token[0] == "op" and token[1] in "({[":
            argument = self.atom()
        else:
            argument = self.factor()
            while (token := self.peek()) and (token[0] in ("num", "sym") or token[1] in ("pi", "frac", "sqrt")):
                argument = ["mul", argument, self.factor()]
        node = ["log", base, argument] if base else ["fn", name, argument]
        return ["pow", node, exponent] if exponent else node

    def special(self, value: str) -> Node:
        """Brackets and the commands with a meaning of their own."""
        if value in CLOSERS:
            return self.bracket(value)
        if value == "{":
            items, _ = self.items("}")
            return items[0] if len(items) == 1 else ["set", items]
        if value in ("|", "lvert"):
            return self.bar("|" if value == "|" else "rvert")
        if value in ("lfloor", "lceil"):
            node = self.sum()
            self.expect("rfloor" if value == "lfloor" else "rceil")
            return ["fn", "floor" if value == "lfloor" else "ceil", node]
        if value in ("frac", "binom"):
            over, under = self.single(), self.single()
            return ["div" if value == "frac" else "binom", over, under]
        if value == "sqrt":
            return self.root()
        if value in CONSTANTS:
            return ["const", CONSTANTS[value]]
        if value in ("emptyset", "varnothing"):
            return ["set", []]
        if value == "lbrace":
            return ["set", self.items("rbrace")[0]]
        if value == "begin":
            return matrix(self)
        raise Unreadable(f"cannot read {value!r}")

    def bar(self, closer: str) -> Node:
        """An absolute value."""
        self.bars += 1
        node = self.sum()
        self.bars -= 1
        self.expect(closer)
        return ["abs", node]

    def root(self) -> Node:
        r"""What stands after `\sqrt`, with its index."""
        index: Node = ["num", "2"]
        if self.take("["):
            index = self.sum()
            self.expect("]")
        return ["root", self.argument(), index]

    def items(self, *closers: str) -> tuple[list[Node], str]:
        """Parts between commas up to a closing bracket; return them and the bracket."""
        bars, self.bars = self.bars, 0
        if closer := self.take(*closers):
            return [], closer
        items = [self.relation()]
        while self.take(",", ";"):
            items.append(self.relation())
        closer = self.take(*closers)
        if not closer:
            raise Unreadable("a bracket is not closed")
        self.bars = bars
        return items, closer

    def bracket(self, opener: str) -> Node:
        """A tuple, an interval, or just an expression in brackets."""
        items, closer = self.items(*CLOSERS[opener])
        if len(items) == 1 and closer == CLOSERS[opener][0]:
            return items[0]
        return ["group", opener, items, closer]
