"""How tables and pages write numbers and names."""

import re

from markupsafe import Markup, escape


def size(count: int) -> str:
    """Return a file size for people."""
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"


def breakable(name: str) -> Markup:
    """Return a name that may break behind its separators where a cell is narrow."""
    return Markup(re.sub(r"([/._])(?=.)", r"\1<wbr>", str(escape(name))))
