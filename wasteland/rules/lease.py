"""How long a claim holds: the lease, its limits, its heartbeat and its end.  Pure; the caller brings the clock.

A claim without a lease, from a peer that knows none, holds until somebody
gives it back.  A lease that has ended takes nothing away by itself: after a
time of grace another rig may take the claim over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from wasteland.errors import Usage
from wasteland.text import show
from wasteland.values import dataclass

# How long a claim of an item of each effort holds, at most and by default.
LIMITS: dict[str | None, timedelta] = {
    "trivial": timedelta(days=1),
    "small": timedelta(days=3),
    "medium": timedelta(days=7),
    "large": timedelta(days=14),
    "epic": timedelta(days=30),
}
USUAL = LIMITS["medium"]  # of an item whose effort is none of these
GRACE = timedelta(hours=1)  # between the end of a lease and the first moment at which it can be taken over
# What a pull request may be away from the clock that judges it: it waits for days, and clocks differ.
WAITED, AHEAD = timedelta(days=7), timedelta(minutes=10)

RUNNING, EXPIRED, OVER = "running", "expired", "over-grace"
DURATION = re.compile(r"([1-9][0-9]{0,4})([mhd])\Z", re.ASCII)
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
TIMES = ("claimed_at", "renewed_at", "expires_at")


@dataclass(frozen=True)
class Lease:
    """Until when `rig` holds its claim; times are UTC.  A row of `wl_leases`."""

    wanted_id: str
    rig: str
    claimed_at: datetime
    renewed_at: datetime
    expires_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any] | None) -> Self | None:
        """The lease that a row holds; None where it is not one that we could have written."""
        if row is None or not row.get("wanted_id") or not row.get("rig"):
            return None
        times = [row.get(name) for name in TIMES]
        found = [at.replace(tzinfo=at.tzinfo or UTC) for at in times if isinstance(at, datetime)]
        return cls(str(row["wanted_id"]), str(row["rig"]), *found) if len(found) == len(times) else None

    @property
    def heartbeat(self) -> datetime:
        """When its rig was heard of last."""
        return max(self.claimed_at, self.renewed_at)

    def to_json(self) -> dict[str, str]:
        """The lease as `--json` prints it."""
        times = {name: getattr(self, name).strftime("%Y-%m-%dT%H:%M:%SZ") for name in TIMES}
        return {"rig": self.rig, **times}


def limit(effort: str | None) -> timedelta:
    """How long a claim of an item of this effort may hold."""
    return LIMITS.get(effort, USUAL)


def duration(text: str) -> timedelta:
    """A time like `5d`, `12h` or `90m`; Usage for anything else."""
    found = DURATION.match(text)
    if found is None:
        raise Usage(f"invalid time {show(text)!r}: a number of days, hours or minutes, like 5d, 12h or 90m")
    return int(found[1]) * UNITS[found[2]]


def granted(wanted_id: str, rig: str, effort: str | None, now: datetime, asked: timedelta | None = None) -> Lease:
    """A fresh lease from `now`, as long as the effort allows, or as `asked`; Usage when that is longer."""
    now = now.replace(microsecond=0)
    return Lease(wanted_id, rig, now, now, now + _lasting(effort, asked))


def renewed(lease: Lease, effort: str | None, now: datetime, asked: timedelta | None = None) -> Lease:
    """The lease again from `now` on; when it was claimed stays."""
    now = now.replace(microsecond=0)
    return replace(lease, renewed_at=now, expires_at=now + _lasting(effort, asked))


def _lasting(effort: str | None, asked: timedelta | None) -> timedelta:
    most = limit(effort)
    if asked is not None and asked > most:
        raise Usage(f"a claim of an item of effort {show(effort or 'medium')} holds {most.days} d at most")
    return most if asked is None else asked


def state(lease: Lease, now: datetime) -> str:
    """`running`, `expired`, or `over-grace` when the claim can be taken over."""
    if now < lease.expires_at:
        return RUNNING
    return EXPIRED if now - lease.expires_at < GRACE else OVER


def sentence(lease: Lease, now: datetime) -> str:
    """`leased until 2026-11-28 07:00 UTC`, or `lease expired 3 h ago`."""
    if state(lease, now) == RUNNING:
        return f"leased until {moment(lease.expires_at)}"
    return f"lease expired {ago(now - lease.expires_at)} ago"


def moment(at: datetime) -> str:
    """A time as people read it, to the minute."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def ago(gone: timedelta) -> str:
    """A span in its largest whole unit that says something: `5 min`, `3 h`, `4 d`."""
    hours = int(gone / UNITS["h"])
    if hours < 1:
        return f"{int(gone / UNITS['m'])} min"
    return f"{hours} h" if hours < 48 else f"{gone.days} d"


def bad_times(lease: Lease, effort: str | None, now: datetime) -> str | None:
    """What is wrong with the times of a lease that somebody wrote at about `now`; None where they can be true."""
    if not lease.claimed_at <= lease.renewed_at <= lease.expires_at:
        return "its times are out of order"
    if lease.heartbeat > now + AHEAD:
        return f"it starts at {moment(lease.heartbeat)}, which is still to come"
    if lease.heartbeat < now - WAITED:
        return f"it was last renewed at {moment(lease.heartbeat)}, which is too long ago"
    if lease.expires_at - lease.heartbeat > limit(effort):
        return f"it holds longer than {limit(effort).days} d"
    return None
