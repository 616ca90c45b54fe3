"""The package itself: `import sorsa` is this project and not the authors' PyPI package of that name, and is light."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import sorsa

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "datasets", "peft", "sympy", "numpy", "yaml", "matplotlib")


def test_sorsa_is_ours() -> None:
    assert Path(sorsa.__file__).resolve().parent == ROOT / "sorsa"


def test_the_authors_package_is_not_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + [line for lines in project["optional-dependencies"].values() for line in lines]
    assert not [line for line in wanted if line.startswith("sorsa")]
    assert project["version"] == sorsa.__version__
    assert project["scripts"] == {"sorsa": "sorsa.cli:main"}


def heavy_after(code: str) -> str:
    """Return the heavy modules that a new interpreter has loaded after running some code."""
    script = f"import sys; {code}; print(*[name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_import_sorsa_is_light() -> None:
    assert heavy_after("import sorsa").split() == []


def test_the_command_line_is_light() -> None:
    modules = "sorsa.cli, sorsa.methods, sorsa.data, sorsa.evaluation, sorsa.training"
    assert heavy_after(f"import {modules}; sorsa.cli.build_parser().format_help()").split() == []


def test_checking_a_config_needs_only_yaml() -> None:
    code = "from sorsa.config_files import load_config; load_config('llama2_sorsa_r128', 'train', {})"
    assert heavy_after(code).split() == ["yaml"]
