"""Evidence that can be checked: what is signed about it, and whether that is still so.

`make` turns a worker's words, file or commits into the text of a completion and
the manifest that is signed with it; `check` looks again at everything that a
signed manifest names.  A repository or address that a stranger wrote down is
asked only within `fetch.Reach`; a path of this machine only where the user names it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wasteland.evidence.checking import Evidence, check, find
    from wasteland.evidence.making import Commits, make
    from wasteland.evidence.repository import reach_of

__all__ = ["Commits", "Evidence", "check", "find", "make", "reach_of"]
MODULES = {
    "Commits": "making", "Evidence": "checking", "check": "checking", "find": "checking", "make": "making",
    "reach_of": "repository",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what is asked for: who hands evidence in does not load what checks it."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
