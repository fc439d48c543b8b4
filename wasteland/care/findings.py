"""What a look at a part of this installation found."""

from __future__ import annotations

from wasteland.values import dataclass

OK, WARNING, FAILURE = "ok", "warning", "failure"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ok, warning or failure."""

    state: str
    what: str
    detail: str
    hint: str = ""
