r"""Other ways to write a gold answer that mean the same; used by graders.py.

Each function takes the gold answer and yields (kind, text of the final answer); only rewritings that apply are given.
`whole:` kinds are complete endings of a completion, the others follow `The answer is: `.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

Pairs = Iterator[tuple[str, str]]
THOUSANDS = re.compile(r"\d,\s*(?:\\!)?\s*\d{3}(?!\d)")
_TEXT = ("\\text", "\\mbox", "\\mathrm")


def wrappings(gold: str) -> Pairs:
    """What can stand around any answer."""
    yield "period", f"{gold}."
    yield "dollars", f"${gold}$"
    yield "dollars, period", f"${gold}$."
    yield "brackets", f"\\({gold}\\)"
    yield "display", f"\\[ {gold} \\]"
    yield "boxed", f"\\boxed{{{gold}}}"
    yield "boxed in dollars", f"$\\boxed{{{gold}}}$."
    yield "bold", f"**{gold}**"
    yield "outer spaces", f"   {gold}  \n"
    yield "next line", f"\n{gold}"
    yield "words after", f"${gold}$\nI hope this helps."
    yield "thin space", f"\\, {gold} \\;"
    yield "whole: boxed only", f"Hence the result is $\\boxed{{{gold}}}$."
    yield "whole: final", f"The final answer is ${gold}$. I hope it is correct."
    yield "whole: markdown", f"**The answer is:** ${gold}$"
    yield from _chat(gold)


def _chat(gold: str) -> Pairs:
    """How models that are made for conversation end, and answers cut off or repeated."""
    yield "whole: display of a box", f"Therefore, the answer is:\n\\[\n\\boxed{{{gold}}}\n\\]"
    yield "whole: display in dollars", f"The final answer is:\n\n$$\n{gold}\n$$"
    yield "whole: box after words", f"So the answer is the value above.\n\n\\[ \\boxed{{{gold}}} \\]"
    yield "whole: empty last marker", f"The answer is: {gold}\n\nThe answer is: "
    yield "whole: heading", f"**Final Answer:**\n\\[\n{gold}\n\\]"
    yield "whole: bold marker", f"**The answer is**: ${gold}$"
    yield "whole: headings and a box", f"#### Step 1: add\n#### Step 2: done\n$\\boxed{{{gold}}}$"


def gsm8k(gold: str) -> Pairs:
    """Rewritings of a plain integer."""
    number = int(gold.replace(",", ""))
    sign, digits = ("-" if number < 0 else ""), str(abs(number))
    yield from wrappings(gold)
    yield "no comma", str(number)
    yield "decimals", f"{number}.00"
    yield "money", f"{sign}${digits}"
    yield "money, decimals", f"{sign}${digits}.00"
    yield "escaped money", f"\\${digits}" if not sign else f"-\\${digits}"
    yield "bold money", f"**{sign}${digits}**"
    yield "dollar word", f"{number} dollars"
    yield "units", f"{number} apples per day."
    yield "latex unit", f"{number} \\text{{ apples}}"
    yield "label", f"x = {number}"
    yield "approximately", f"approximately {number}"
    yield "total", f"{number} in total"
    yield "other number after", f"{number} apples in 3 bags"
    yield "formula after", f"{number} = {number + 2} - 2"
    yield "since", f"{number}, since there are 3 bags"
    yield "rate", f"{number} dollars per hour for 3 hours"
    yield "parenthesis", f"{number} (that is, {number} apples)"
    yield "bracketed", f"({number})"
    yield "mathbf", f"\\mathbf{{{number}}}"
    yield "usd", f"USD {number}"
    yield "product", f"2 \\times {number} / 2 = {number}"
    yield "formula label", f"$x = {number}$"
    yield "sum", f"5 + {number - 5} = {number}" if number >= 5 else f"{number} + 0 = {number}"
    yield "percent", f"{number}%"
    yield "fraction", f"\\frac{{{2 * number}}}{{2}}"
    yield "slash", f"{3 * number}/3"
    yield "whole: hashes", f"So that is it.\n#### {gold}"
    if number >= 1000:
        grouped = f"{number:,}"
        yield "comma", grouped
        yield "comma, money", f"${grouped}" if number > 0 else f"-${grouped[1:]}"
        yield "braced comma", grouped.replace(",", "{,}")
        yield "comma, thin", grouped.replace(",", ",\\!")
        yield "scientific", f"{Fraction(number, 1000).limit_denominator(1000) * 1.0:.12g} \\times 10^3"
    if number < 0:
        yield "unicode minus", f"\u2212{digits}"


def math(gold: str) -> Pairs:
    """Rewritings of an answer of MATH."""
    yield from wrappings(gold)
    yield from _ascii(gold)
    yield from _notation(gold)
    yield from _commands(gold)
    yield from _numbers(gold)
    yield from _collections(gold)
    yield from _signs_and_units(gold)


def _ascii(gold: str) -> Pairs:
    """The answer as one types it without LaTeX."""
    mixed = re.search(r"\d ?\\[dt]?frac", gold)  # 1(4)/(5) would be a product
    if mixed or "\\begin" in gold or any(command in gold for command in _TEXT) or "\\\\" in gold:
        return
    text = gold.replace("\\left", "").replace("\\right", "").replace("\\!", "").replace("\\$", "$")
    for command, typed in (
        ("infty", "infinity"),
        ("cup", "U"),
        ("le", "<="),
        ("ge", ">="),
        ("pi", "pi"),
        ("cdot", "*"),
    ):
        text = re.sub(rf"\\{command}(?![a-zA-Z])", typed, text)
    text = re.sub(r"\\[dt]?frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\sqrt(\d)", r"\\sqrt{\1}", text)
    for _ in range(3):  # nested
        text = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", text)
        text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1)/(\2)", text)
        text = re.sub(r"\^\{([^{}]*)\}", r"^(\1)", text)
    text = re.sub(r"(\d)(?=sqrt|pi)", r"\1*", text)
    if "\\" not in text and "_" not in text:
        yield from _changed("ascii", gold, text)
        yield from _changed("ascii roots", gold, re.sub(r"\*?sqrt\((\d+)\)", "\u221a\\1", text))


def _changed(kind: str, gold: str, text: str) -> Pairs:
    if text != gold:
        yield kind, text


def _notation(gold: str) -> Pairs:
    words = any(command in gold for command in _TEXT) or not re.search(r"\d|\\|[-+=^]", gold)
    yield from _changed("dfrac", gold, gold.replace("\\frac", "\\dfrac"))
    yield from _changed("tfrac", gold, gold.replace("\\frac", "\\tfrac"))
    yield from _changed("frac shorthand", gold, re.sub(r"\\frac\{(\d)\}\{(\d)\}", r"\\frac\1\2", gold))
    yield from _changed("frac braces", gold, re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", gold))
    yield from _changed("sqrt shorthand", gold, re.sub(r"\\sqrt\{(\d)\}", r"\\sqrt\1", gold))
    yield from _changed("sqrt braces", gold, re.sub(r"\\sqrt(\d)", r"\\sqrt{\1}", gold))
    yield from _changed("power braces", gold, re.sub(r"\^(\w)(?!\w)", r"^{\1}", gold))
    if not words:
        yield from _changed("wide", gold, re.sub(r"(?<![\\{(\[^_,&]) ?([+=]) ?", r"  \1  ", gold))
        yield from _changed("tight", gold, re.sub(r"(?<![a-zA-Z\\]) +| +(?![a-zA-Z ])", "", gold))
    if re.fullmatch(r"[^,]*", gold) is None and not THOUSANDS.search(gold):
        yield from _changed("comma spaces", gold, re.sub(r",\s*", ",  ", gold))
        yield from _changed("comma tight", gold, re.sub(r",\s+(?![a-zA-Z])", ",", gold))


def _commands(gold: str) -> Pairs:
    plain = gold.replace("\\left", "").replace("\\right", "")
    yield from _changed("left right dropped", gold, plain)
    if "\\left" not in gold and gold[:1] in "([" and gold[-1:] in ")]":
        yield "left right added", f"\\left{gold[:-1]}\\right{gold[-1]}"
    if gold.startswith("\\begin{pmatrix}"):
        yield (
            "array",
            gold.replace("{pmatrix}", "{array}{ccc}", 1).replace("{pmatrix}", "{array}").join(("\\left(", "\\right)")),
        )
    yield from _changed("bmatrix", gold, gold.replace("pmatrix", "bmatrix"))
    yield from _changed("unicode pi", gold, re.sub(r"\\pi(?![a-zA-Z])", "\u03c0", gold))
    yield from _changed("unicode infinity", gold, gold.replace("\\infty", "\u221e"))
    yield from _changed("unicode cup", gold, gold.replace("\\cup", "\u222a"))
    yield from _changed("unicode minus", gold, gold.replace("-", "\u2212"))
    if re.fullmatch(r"\d+\\sqrt\{?\d+\}?", gold):
        yield "explicit product", gold.replace("\\sqrt", " \\cdot \\sqrt")
        yield "plain sqrt", re.sub(r"\\sqrt\{?(\d+)\}?", r"*sqrt(\1)", gold)
    yield from _changed("pi factor", gold, re.sub(r"(\d)\\pi", r"\1 \\cdot \\pi", gold))
    if simple := re.fullmatch(r"([a-z]|\d+)\s*([+-])\s*(\d*[a-z]|\d+)", gold):
        yield "terms swapped", (f"{simple[3]} + {simple[1]}" if simple[2] == "+" else f"-{simple[3]} + {simple[1]}")


def _numbers(gold: str) -> Pairs:
    value, short = value_of(gold), re.fullmatch(r"-?\d{1,3}|-?\d{5,}|-?\d{4}", gold)
    if value is None:
        return
    yield "label", f"$x = {gold}$"
    yield "plain label", f"n={gold}"
    yield "unit", f"{gold} \\text{{ units}}"
    yield "plain unit", f"${gold}$ units"
    if short:
        yield "decimals", f"{gold}.00"
        yield "over one", f"\\frac{{{gold}}}{{1}}"
    if abs(value) >= 1000 and value.denominator == 1:
        grouped = f"{int(value):,}"
        yield "comma", grouped
        yield "no comma", str(int(value))
        yield "braced comma", grouped.replace(",", "{,}")
        yield "comma, thin", grouped.replace(",", ",\\!")
        yield "scientific", f"{int(value) / 1000:.12g} \\times 10^{{3}}"
    sign, over, under = ("-" if value < 0 else ""), abs(value.numerator), value.denominator
    if under > 1 and sign:
        yield "sign inside", f"\\frac{{-{over}}}{{{under}}}"
        yield "sign below", f"\\frac{{{over}}}{{-{under}}}"
    if under > 1:
        yield "chain", f"x = \\frac{{{2 * value.numerator}}}{{{2 * under}}} = {gold}"
        yield "mathbf", f"\\mathbf{{{gold}}}"
        yield "slash", f"{sign}{over}/{under}"
        yield "latex fraction", f"{sign}\\frac{{{over}}}{{{under}}}"
        if over > under:
            yield "mixed", f"{sign}{over // under}\\frac{{{over % under}}}{{{under}}}"
            yield "plain mixed", f"{sign}{over // under} {over % under}/{under}"
        if 10**9 % under == 0:  # has an exact decimal
            yield "decimal", f"{sign}{over * 10**9 // under / 10**9:.12g}"


def value_of(gold: str) -> Fraction | None:
    """The value of a plain integer, decimal or fraction; None for all else."""
    text = gold.replace(",\\!", "").replace(" ", "")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+", text):
        text = text.replace(",", "")
    if match := re.fullmatch(r"(-?)\\[dt]?frac(?:\{(\d+)\}|(\d))(?:\{(\d+)\}|(\d))", text):
        text = f"{match[1]}{match[2] or match[3]}/{match[4] or match[5]}"
    if not re.fullmatch(r"-?\d*\.?\d+(/\d+)?", text):
        return None
    return Fraction(text)


def _collections(gold: str) -> Pairs:
    items = re.split(r",\s*", gold)
    bare = re.sub(r"\\(?:frac|sqrt|text)\{[^{}]*\}(?:\{[^{}]*\})?", "", gold)
    if len(items) > 1 and not re.search(r"[()\[\]{}]", bare) and not THOUSANDS.search(gold):
        yield "order", ", ".join(reversed(items))
        yield "and", f"{', '.join(items[:-1])} and {items[-1]}"
        yield "oxford", f"{', '.join(items[:-1])}, and {items[-1]}"
        yield "or words", " \\text{ or } ".join(items)
        yield "each labelled", " or ".join(f"$x = {item}$" for item in items)
        yield "braces", f"\\{{{gold}\\}}"
        yield "plain braces", f"{{{gold}}}"
        yield "element of", f"x \\in \\{{{gold}\\}}"
        yield "each in dollars", ", ".join(f"${item}$" for item in items)
    if interval := re.fullmatch(r"([(\[])(-?\d+), *(-?\d+)([)\]])", gold):
        opener, low, high, closer = interval.groups()
        if (opener, closer) != ("(", ")"):  # (1,2) may be a point
            yield (
                "inequality",
                f"{low} {'<' if opener == '(' else chr(92) + 'le'} x {'<' if closer == ')' else '≤'} {high}",
            )
    if union := re.fullmatch(r"([^\\]+\)) *\\cup *(\(.+)", gold):
        yield "union order", f"{union[2]} \\cup {union[1]}"


def _signs_and_units(gold: str) -> Pairs:
    yield from _changed("degree dropped", gold, re.sub(r"\^\{?\\circ\}?", "", gold))
    yield from _changed("degree sign", gold, re.sub(r"\^\{?\\circ\}?", "\u00b0", gold))
    yield from _changed("degree word", gold, re.sub(r"\^\{?\\circ\}?", " \\\\text{ degrees}", gold))
    yield from _changed("percent dropped", gold, gold.replace("\\%", ""))
    yield from _changed("percent plain", gold, gold.replace("\\%", "%"))
    yield from _changed("dollar dropped", gold, gold.replace("\\$", ""))
    yield from _changed("unit dropped", gold, re.sub(r"(?<=\d)\s*\\(?:text|mbox)\{[^{}]*\}(?:\^\d)?$", "", gold))
    if word := re.fullmatch(r"\\text(?:bf)?\{([A-Za-z() ]+)\}", gold):
        yield "text dropped", word[1]
        yield "bold word", f"**{word[1]}**"
        yield "textbf", f"\\textbf{{{word[1]}}}"
        yield "lower case", f"\\text{{{word[1].lower()}}}"
    elif re.fullmatch(r"[A-Z][a-z]{3,}", gold):
        yield "text added", f"\\text{{{gold}}}"
