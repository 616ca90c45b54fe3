"""Comparing parsed answers: logarithms with and without base, and equations that state a value."""

from __future__ import annotations

import pytest

from sorsa.evaluation import math, opinions
from sorsa.evaluation.benchmark import Item


@pytest.fixture(autouse=True)
def rules_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each test the start of math-verify; test_opinions.py is about it."""
    monkeypatch.setattr(opinions, "installed", lambda: False)


def wrong(rule: str, pairs: list[tuple[str, str]], verdict: bool) -> list[tuple[str, str]]:
    """Return the (prediction, gold) pairs on which a rule says something else."""
    graded = math.grade_all([Item(prediction, gold, extracted=True) for prediction, gold in pairs])
    return [pair for pair, one in zip(pairs, graded, strict=True) if one[rule].correct != verdict]


# In MATH \log is the logarithm to base 10, \ln the natural one.
SAME_LOGARITHM = [
    (r"\log 100", "2"),
    ("log(100)", "2"),
    (r"\log_{10} 5", r"\log 5"),
    (r"\log 2 + \log 5", "1"),
    (r"\frac{\log 8}{\log 2}", "3"),
    (r"\frac{\ln 8}{\ln 2}", r"\frac{\log 8}{\log 2}"),
    (r"\frac{\log 3}{\log 2}", r"\log_2 3"),
    (r"\log_2 3 \cdot \log_3 2", "1"),
    (r"10^{\log 3}", "3"),
    (r"\ln e^2", "2"),
    (r"\log_e 5", r"\ln 5"),
    (r"\log (x^2+1)", r"\log_{10}(1+x^2)"),
    (r"\log^2 100", "4"),
    (r"x = \log 7", r"\log 7"),
]
OTHER_LOGARITHM = [
    (r"\log 2", r"\ln 2"),
    (r"\ln 100", "2"),
    (r"\log e", "1"),
    (r"e^{\log 3}", "3"),
    (r"\log_2 5", r"\log 5"),
    (r"\log 5", r"\log 6"),
    (r"\log x", r"\ln x"),
    ("0.69897", r"\log 5"),
]


@pytest.mark.parametrize(("verdict", "pairs"), [(True, SAME_LOGARITHM), (False, OTHER_LOGARITHM)])
def test_logarithms(verdict: bool, pairs: list[tuple[str, str]]) -> None:
    assert not wrong("ours", pairs, verdict)


def test_the_authors_logarithm_is_natural() -> None:
    assert not wrong("authors", [(r"\log 2", r"\ln 2"), (r"\log{e^2}", "2"), (r"1+\log{x}", r"\ln{x}+1")], True)
    assert not wrong("authors", [(r"\log 100", "2"), (r"\log_{10} 5", r"\log 5")], False)


STATED = [
    ("f(2)+f(3)=5", "5"),
    ("f(f(2))=5", "5"),
    ("f(2) = 5", "5"),
    ("f(1)+f(2)+f(3) = 2 + 3 = 5", "5"),
    ("2f(3)-1=5", "5"),
    ("a_1(2)+a_1(3)=5", "5"),
    ("C(5,2)=10", "10"),
    ("P(X=2)=1/4", "1/4"),
    (r"\phi(10) = 4", "4"),
    ("x=5", "5"),
    ("5", "x=5"),
    ("m+n=5", "5"),
    ("2+3=5", "5"),
    ("f(x)=5", "5"),
    ("f(2)+f(3)=5", "f(3)+f(2)=5"),
    ("a_{n+1}", "a_{n+1}"),
    ("a_n(2)", "2a_n"),
]
NOT_STATED = [
    ("f(2)+f(3)=5", "6"),
    ("f(2)+f(3)=5=6", "6"),
    ("5", "f(2)+f(3)=5"),
    ("2x=5", "5"),
    ("x+2=5", "5"),
    ("x^2=5", "5"),
    (r"x \cdot 2=5", "5"),
    ("x*2+1=5", "5"),
    ("2(x+1)=5", "5"),
    ("x(x+1)=5", "5"),
    ("x(2)+x=5", "5"),
    ("f(2)+f(3)=5", "f(2)+f(4)=5"),
    ("2+2=5", "5"),
    ("x=5", "6"),
    ("a_{n+1}", "a_{m+1}"),
]


@pytest.mark.parametrize(("verdict", "pairs"), [(True, STATED), (False, NOT_STATED)])
def test_equations_that_state_a_value(verdict: bool, pairs: list[tuple[str, str]]) -> None:
    assert not wrong("ours", pairs, verdict)
