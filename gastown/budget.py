"""How long a run may take.  Pure; no run starts without an answer.

A budget is wall clock per run, in whole seconds.
"""

from __future__ import annotations

import re

from gastown.errors import OverBudget, Usage

LONGEST = 24 * 3600
GRACE = 15
"""Seconds after the budget in which the shim itself must have ended the run."""

_SHAPE = re.compile(r"([1-9][0-9]{0,5})(s|m|h)\Z")
_UNITS = {"s": 1, "m": 60, "h": 3600}


def parse(text: str) -> int:
    """Seconds from `90s`, `10m` or `1h`; Usage for anything else or over a day."""
    found = _SHAPE.match(text)
    if not found:
        raise Usage("a budget is a number with s, m or h, such as 90s, 10m or 1h", hint="--budget 10m")
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > LONGEST:
        raise Usage("a budget of one run may not be longer than 24h")
    return seconds


def require(seconds: int | None) -> int:
    """`seconds` if it is a budget; OverBudget where there is none."""
    if seconds is None or seconds <= 0:
        raise OverBudget("no run starts without a budget", hint="say --budget 10m")
    return seconds


def overdue(elapsed: float, budget_seconds: int) -> bool:
    """True when a run is past its budget and the shim had time to end it."""
    return elapsed > budget_seconds + GRACE


def words(seconds: float) -> str:
    """Seconds as people say them: 45s, 10m, 1h30m."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    hours, minutes = divmod(whole // 60, 60)
    if not hours:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    return f"{hours}h{minutes}m" if minutes else f"{hours}h"
