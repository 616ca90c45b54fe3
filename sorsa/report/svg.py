"""Figures inside a page: an SVG file without what only a file needs, and with names that no other figure has."""

from __future__ import annotations

import re

_BEFORE = re.compile(r"^.*?(?=<svg\b)", re.DOTALL)  # the XML declaration and the document type
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_ID = re.compile(r'\bid="([^"]+)"')
_LINK = re.compile(r'((?:xlink:)?href="#|url\(#)')
_BOX = re.compile(r'\bviewBox="\S+ \S+ ([0-9.]+) ')
_SIZE = re.compile(r'(<svg\b[^>]*?)\s(?:width|height)="[^"]*"')


def inline_svg(text: str, name: str, title: str) -> str:
    """Return an SVG file as an element of an HTML page.

    Args:
        text: The file's content, as matplotlib writes it.
        name: Put in front of every id: figures share ids, and the page would take the first one's for all.
        title: What a screen reader says.

    Returns:
        The element, without a fixed size: it takes the width it is given.

    Raises:
        ValueError: It is no SVG, or would run code.
    """
    text = _METADATA.sub("", _BEFORE.sub("", text, count=1)).strip()
    if not text.startswith("<svg") or re.search(r"<script|\son\w+=|<foreignObject", text, re.IGNORECASE):
        raise ValueError(f"figure {name}: not a plain SVG")
    text = _LINK.sub(rf"\g<1>{name}-", _ID.sub(rf'id="{name}-\g<1>"', text))
    for _ in ("width", "height"):
        text = _SIZE.sub(r"\g<1>", text, count=1)
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def svg_width(text: str) -> float:
    """Return the width of an SVG in its own units (matplotlib's are points), 0 where it does not say.

    Args:
        text: The SVG.
    """
    found = _BOX.search(text)
    return float(found[1]) if found else 0.0
