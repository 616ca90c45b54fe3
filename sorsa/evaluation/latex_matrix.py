r"""Reading `\begin{pmatrix} ... \end{pmatrix}`: the part of the answer parser (latex.py) that reads environments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sorsa.evaluation.latex_tokens import Unreadable

if TYPE_CHECKING:
    from sorsa.evaluation.latex import Parser

_MATRICES = {"pmatrix", "bmatrix", "vmatrix", "Bmatrix", "matrix", "smallmatrix", "array"}

_OTHER_KINDS = {"vmatrix", "Bmatrix"}  # a determinant, and a system; not the matrix itself


def matrix(parser: Parser) -> list[Any]:
    r"""Return `["matrix", rows, kind]` of an environment whose `\begin` was just read.

    Round and square brackets are one kind.

    Raises:
        Unreadable: Another environment, or one that does not end.
    """
    name = _environment(parser)
    if name == "array":
        _environment(parser)  # the column specification
    rows: list[list[Any]] = [[]]
    while not parser.take("end"):
        if parser.take("\\"):
            rows.append([])
        elif not parser.take("&"):
            rows[-1].append(parser.relation())
    if _environment(parser) != name:
        raise Unreadable("the matrix does not end as it began")
    return ["matrix", [row for row in rows if row], name if name in _OTHER_KINDS else ""]


def _environment(parser: Parser) -> str:
    parser.expect("{")
    name = ""
    while not parser.take("}"):
        token = parser.peek()
        if token is None:
            raise Unreadable("a brace is not closed")
        name += token[1]
        parser.at += 1
    if name not in _MATRICES and name.strip("lcr|"):
        raise Unreadable(f"cannot read the environment {name[:20]!r}")
    return name
