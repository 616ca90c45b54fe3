"""`import sorsa` registers both tuners with PEFT, whichever is imported first, and costs nothing until PEFT is."""

from __future__ import annotations

import enum
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sorsa.registration import add_enum_member

ROOT = Path(__file__).parents[1]


def run(code: str, python: str = sys.executable) -> str:
    result = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize(
    "first",
    [
        "import sorsa, peft",
        "import peft, sorsa",
        "from sorsa import SorsaConfig",
        "import sorsa.adapters.osora_layer",
        "import sorsa, importlib.util; importlib.util.find_spec('peft'); import peft",
        "import sorsa, transformers.utils as u; u.is_peft_available(); import peft",
    ],
)
def test_any_order_of_imports(first: str) -> None:
    show = "print(*[PEFT_TYPE_TO_CONFIG_MAPPING[name].__name__ for name in ('SORSA', 'OSORA')])"
    assert run(f"{first}; from peft.mapping import *; {show}") == "SorsaConfig OsoraConfig"


def test_importing_sorsa_is_light() -> None:
    assert run("import sys, sorsa; print([m for m in ('torch', 'peft', 'transformers') if m in sys.modules])") == "[]"


def test_unknown_name() -> None:
    code = "import sorsa\ntry: sorsa.Sorsa\nexcept AttributeError as e: print(e)"
    assert run(code).startswith("module 'sorsa' has no attribute 'Sorsa'; it has SorsaConfig, SorsaModel, OsoraConfig")


class Color(str, enum.Enum):  # noqa: UP042  (PEFT's own enum is of this kind, not a StrEnum)
    """Stands in for PEFT's `PeftType`."""

    RED = "RED"


ENUM_CHECK = """
import enum, importlib.util, pickle
spec = importlib.util.spec_from_file_location("registration", "sorsa/registration.py")
registration = importlib.util.module_from_spec(spec); spec.loader.exec_module(registration)
class Color(str, enum.Enum):
    RED = "RED"
member = registration.add_enum_member(Color, "BLUE", "BLUE")
assert member is Color.BLUE is Color("BLUE") is Color["BLUE"]
assert list(Color) == [Color.RED, Color.BLUE] and "BLUE" in list(Color) and len(Color) == 2
assert Color.BLUE == "BLUE" and {Color.BLUE: 1}["BLUE"] == 1 and isinstance(member, Color)
assert pickle.loads(pickle.dumps(member)) is member and repr(member) == "<Color.BLUE: 'BLUE'>"
print("ok")
"""


def find_python(version: str) -> str | None:
    """Find an interpreter of a version: this one, one on the PATH, or one that pyenv keeps."""
    pyenv = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    for python in (sys.executable, shutil.which(f"python{version}"), *map(str, pyenv)):
        ask = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if python and subprocess.run(ask, capture_output=True, text=True).stdout.strip() == version:
            return python
    return None


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_enum_member_on_every_supported_python(version: str) -> None:
    python = find_python(version)
    if python is None:
        pytest.skip(f"python{version} is not on this machine")
    assert run(ENUM_CHECK, python) == "ok"


def test_adding_twice_is_harmless_and_a_clash_is_an_error() -> None:
    assert add_enum_member(Color, "GREEN", "GREEN") is add_enum_member(Color, "GREEN", "GREEN")
    with pytest.raises(ValueError, match=r"Color.GREEN exists with value 'GREEN', wanted 'OTHER'"):
        add_enum_member(Color, "GREEN", "OTHER")
