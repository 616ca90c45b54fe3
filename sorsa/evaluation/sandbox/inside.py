"""Entry of the processes of the sandbox: `python -I -S inside.py helper`, and `candidate` run by bubblewrap.

It makes a package of this folder alone, so that they load none of sorsa's other files, nor any installed package.
"""

from __future__ import annotations

import importlib
import os
import sys
import types

MODULES = {"helper": "judge", "candidate": "candidate"}

if __name__ == "__main__":
    package = types.ModuleType("sandbox")
    package.__path__ = [os.path.dirname(os.path.abspath(__file__))]
    sys.modules["sandbox"] = package
    importlib.import_module(f"sandbox.{MODULES[sys.argv[1]]}").main()
