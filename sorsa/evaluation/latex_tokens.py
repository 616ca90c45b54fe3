r"""Cutting a mathematical answer into tokens: LaTeX as the MATH data set uses it, and what models write instead.

A token is (kind, value): `num` (a decimal literal, or `a/b` for a repeating decimal), `sym`, `fn` (a function name),
`cmd` (a LaTeX command with a meaning of its own), `text` (words), `op` (one character).
"""

from __future__ import annotations

import re
from fractions import Fraction

from sorsa.evaluation.exact import MAX_DIGITS, OutOfBounds, decimal
from sorsa.evaluation.extraction import matching_brace

Token = tuple[str, str]
MAX_LENGTH = 5000  # characters; the longest MATH answer has about 160
MAX_TOKENS = 1000


class Unreadable(ValueError):
    """The text is outside the subset of LaTeX that the grader reads."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _words(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log exp sqrt min max gcd lcm floor ceil"
)
GREEK = _words(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell angle triangle"
)
# command or character -> what it means to the parser
RELATIONS = {
    "=": "=", "<": "<", ">": ">", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=",
    "lt": "<", "gt": ">", "ne": "!=", "neq": "!=", "in": "in", "equiv": "=", "to": "->", "rightarrow": "->",
}  # fmt: skip
CONSTANTS = {"pi": "pi", "infty": "oo"}
CLOSERS = {"(": ")]", "[": "])"}
_WORDS = {"pi": "pi", "infinity": "infty", "infty": "infty", "inf": "infty"}
UNITS = _words(
    "cm mm km ft in kg lb lbs mph hr hrs min mi oz sq deg degrees degree inches inch feet foot yards yard miles mile "
    "meters meter centimeters units unit square cubic dollars dollar cents cent hours hour minutes minute seconds "
    "second days day years year weeks week percent pounds radians people ways"
)
NO_UNITS = _words(  # words that change what stands before them
    "minus plus over divided multiplied hundred hundreds thousand thousands dozen dozens half twice "
    "not is isn't wrong base mod modulo more less than"
)
_SPACES = re.compile(
    r"(?<!\\)\\(?:[,;:! ]|(?:quad|qquad|displaystyle|textstyle|limits|nolimits|left|right|[bB]igg?[lr]?)(?![a-zA-Z]))|~"
)
_DEGREES = re.compile(r"\^\s*(?:\{\s*)?\\circ\s*\}?|\u00b0|\\degree(?![a-zA-Z])|\\circ(?![a-zA-Z])")
# degrees inside of a function are an angle, anywhere else a unit
_ANGLE = re.compile(
    r"((?:sin|cos|tan|cot|sec|csc)(?:\s*\^\s*\{?-?\d\}?)?\s*(?:[({]\s*)?)(\d{1,9}(?:\.\d{1,9})?)\s*"
    r"(?:\^\s*(?:\{\s*)?\\circ\s*\}?|\u00b0|\\degree(?![a-zA-Z])|\\circ(?![a-zA-Z]))"
)
_ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)(?![a-zA-Z])")
_SCALE = re.compile(r"(?<=\d)\s*(?:(\\(?:text|mbox|mathrm)\s*\{)\s*)?(thousand|million|billion|trillion)(?![a-zA-Z])")
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_TEXT = re.compile(r"\\(text|mbox|mathrm|textbf|textit|textrm|operatorname|mathbb|mathcal|mathsf|hbox|rm|bf)\s*(?=\{)")
_RULED = re.compile(r"\\(overline|bar|vec|hat|overrightarrow|widehat|tilde)\s*(?=\{)")
_CUP = re.compile(r"([)\]])\s*U\s*(?=[(\[])")  # (1,2) U (3,4), as typed without LaTeX
_REALS = re.compile(r"\\mathbb\s*(?:\{\s*R\s*\}|R)")
_NUMERAL = re.compile(r"\d+(?:\.\d+)?")
_SPELLINGS = {
    "\u2212": "-", "\u2013": "-", "\u00d7": "\\times ", "\u00b7": "\\cdot ", "\u00f7": "/", "\u03c0": "\\pi ",
    "\u221e": "\\infty ", "\u2264": "\\le ", "\u2265": "\\ge ", "\u2260": "\\ne ", "\u222a": "\\cup ",
        "\u00b1": "\\pm ", "\u221a": "\\sqrt", "\u2208": "\\in ", "\u03b8": "\\theta ", "\u00bd": "\\frac12 ",
    "\u00b2": "^2", "\u00b3": "^3", "\u2205": "\\emptyset ", "\u211d": "\\mathbb{R}", "<=": "\\le ", ">=": "\\ge ",
    "{,}": ",", "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\tbinom": "\\binom",
    "\\dbinom": "\\binom", "\\mathbf": "", "\\boldsymbol": "", "\\langle": "(", "\\rangle": ")",
}  # fmt: skip
_THOUSANDS = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?:,\d{3})+)(?![\d,])")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\s*\{(\d{1,50})\}")
_TOKEN = re.compile(
    r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+(?![\d\w]))?|\.\d+|\d+\.(?!\d))|\\([a-zA-Z]+|.)|([a-zA-Z]+)|(\S)", re.DOTALL
)


def clean(text: str) -> str:
    r"""Return the answer in one spelling, without dollar signs, `\left`, spacing, degrees, percent, final period."""
    for mark, latex in _SPELLINGS.items():
        text = text.replace(mark, latex)
    text = re.sub(r",\s*\\!\s*", ",", text)
    text = _DEGREES.sub(" ", _ANGLE.sub(r"\1(\2\\pi/180)", text))
    text = _SCALE.sub(lambda m: f"\\cdot 10^{{{_SCALES[m[2]]}}} {m[1] or ''}", _ORDINAL.sub("", text))
    text = text.replace("\\{", "\\lbrace ").replace("\\}", "\\rbrace ")
    text = re.sub(r"(?<!\\)\\[()\[\]]", " ", text)  # \( \) \[ \] delimit, they are not brackets of the answer
    text = _SPACES.sub(" ", re.sub(r"\\(?:left|right)\s*\.", " ", text))
    text = text.replace("\\$", " ").replace("$", " ").replace("\\%", " ").replace("%", " ")
    text = _REALS.sub(r"(-\\infty,\\infty)", _CUP.sub(r"\1\\cup ", text))
    return text.strip().rstrip(".,;: \\").strip()  # a backslash at the end was a space after it


def tokenise(text: str) -> list[Token]:
    """Return the tokens of a cleaned answer.

    Raises:
        Unreadable: Too long, or a character or command outside the subset.
    """
    if len(text) > MAX_LENGTH:
        raise Unreadable(f"{len(text)} characters")
    text = _merge_thousands(text)
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        at = _next(text, at, tokens)
        if len(tokens) > MAX_TOKENS:
            raise Unreadable("too many tokens")
    return tokens


def _merge_thousands(text: str) -> str:
    """Join `1,234` to `1234` outside brackets; inside them the comma separates, as in the point (1,234)."""
    if not any(bracket in text for bracket in "([") and "\\lbrace" not in text:
        return _THOUSANDS.sub(lambda m: m[1] + m[2].replace(",", ""), text)
    return text


def _next(text: str, at: int, tokens: list[Token]) -> int:
    """Append the token at `at`, if any, and return where the next one starts."""
    if text[at].isspace():
        return at + 1
    if repeating := _REPEATING.match(text, at):
        tokens.append(("num", _repeating(*repeating.groups())))
        return repeating.end()
    for pattern, kind in ((_TEXT, "text"), (_RULED, "sym")):
        if match := pattern.match(text, at):
            end = matching_brace(text, match.end())
            if end < 0:
                raise Unreadable("a brace is not closed")
            tokens.append(_worded(kind, match[1], text[match.end() + 1 : end]))
            return end + 1
    match = _TOKEN.match(text, at)
    if not match:
        raise Unreadable(f"cannot read {text[at : at + 10]!r}")
    number, command, letters, other = match.groups()
    if number:
        tokens.append(("num", number.rstrip(".")))
    elif command:
        tokens.append(_command(command))
    elif letters:
        tokens.extend(_letters(letters))
    else:
        tokens.append(("op", other))
    return match.end()


def _worded(kind: str, command: str, content: str) -> Token:
    content = content.strip()
    if kind == "sym":
        return "sym", f"{command}({content})"
    if _NUMERAL.fullmatch(content):  # \mathrm{5}
        return "num", content
    if len(content) == 1 and content.isalpha():
        return "sym", content
    if content in FUNCTIONS:
        return "fn", content
    return "text", content


def _repeating(whole: str, fixed: str, period: str) -> str:
    if len(whole) + len(fixed) > MAX_DIGITS:
        raise OutOfBounds("a repeating decimal with too many digits")
    tail = Fraction(int(period), 10 ** len(fixed) * (10 ** len(period) - 1))
    return str(decimal(f"{whole or 0}.{fixed}" if fixed else whole or "0") + tail)


def _command(name: str) -> Token:
    if name in FUNCTIONS and name != "sqrt":
        return "fn", name
    if name in GREEK:
        return "sym", name
    return "cmd", name


def _letters(run: str) -> list[Token]:
    """A run of letters is a word we know, a longer word, or a product of one-letter variables."""
    lower = run.lower()
    if lower in FUNCTIONS and lower not in UNITS:
        return [("cmd", "sqrt") if lower == "sqrt" else ("fn", lower)]
    if lower in _WORDS:
        return [("cmd", _WORDS[lower])]
    if lower in ("or", "and") or (len(run) > 1 and lower in UNITS):
        return [("text", lower)]
    if len(run) > 3:  # four letters are a word (`east`), not a product
        return [("text", run)]
    return [("sym", letter) for letter in run]


class Cursor:
    """A place in a list of tokens: `at` is the next one."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at = tokens, 0

    def peek(self, ahead: int = 0) -> Token | None:
        """Return the token `ahead` of the next one without consuming it."""
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else None

    def take(self, *values: str) -> str | None:
        """Consume and return the next token's value if it is an operator or command among `values`."""
        token = self.peek()
        if token and token[0] in ("op", "cmd") and token[1] in values:
            self.at += 1
            return token[1]
        return None

    def expect(self, value: str) -> None:
        """Consume this operator or command. Raises Unreadable if another token comes."""
        if not self.take(value):
            raise Unreadable(f"expected {value!r}")

    def word(self, *words: str) -> bool:
        """Consume the next token if it is one of these words."""
        token = self.peek()
        if token and token[0] == "text" and token[1].lower().strip(" ,") in words:
            self.at += 1
            return True
        return False

    def unit_word(self) -> bool:
        """Consume words that may be a unit; tell whether there were any. Raises Unreadable where they cannot be."""
        token = self.peek()
        if token is None or token[0] != "text" or token[1].lower() in ("or", "and"):
            return False
        words, before = token[1].lower().split(), self.peek(-1)
        squared = words[:1] in (["squared"], ["cubed"]) and before[0] != "text"  # `5 squared`, not `5 units squared`
        times = words[:1] == ["times"] and self.peek(1) is not None  # `5 times 2`, not `5 times`
        if squared or times or not NO_UNITS.isdisjoint(words):
            raise Unreadable(f"no unit: {token[1][:20]!r}")
        self.at += 1
        return True
