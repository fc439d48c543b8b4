"""Rows of the ledger, and which state may follow which.  Pure.

Control lives in typed columns (`sandbox`, `hold`, `budget_seconds`); title,
description and reason are text for people and decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gastown.errors import Conflict


class Phase(StrEnum):
    """Where a bead is.  `landed` means its patch was seen on main."""

    READY = "ready"
    WORKING = "working"
    REVIEW = "review"
    HELD = "held"
    LANDING = "landing"
    LANDED = "landed"
    STUCK = "stuck"
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """Where a run of an agent is.  The last four never change again."""

    STARTING = "starting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
    KILLED = "killed"


class MergeState(StrEnum):
    """Where a finished run's commits are on their way to main."""

    QUEUED = "queued"
    LANDING = "landing"
    MERGED = "merged"
    REJECTED = "rejected"


class Sandbox(StrEnum):
    """What a bead asks of the box.

    `required` comes with every wanted item and cannot be taken away; `boxed`
    is the default of a local bead; `accepted` is a person's word, for one run
    of a local bead, that it may run without a box.
    """

    REQUIRED = "required"
    BOXED = "boxed"
    ACCEPTED = "accepted"


class Hold(StrEnum):
    """Why a bead is held: what kind of word it waits for."""

    NONE = ""
    APPROVAL = "approval"
    BUDGET = "budget"


PHASES: dict[Phase, frozenset[Phase]] = {
    Phase.READY: frozenset({Phase.WORKING, Phase.CANCELLED}),
    Phase.WORKING: frozenset({Phase.REVIEW, Phase.READY, Phase.HELD, Phase.STUCK, Phase.CANCELLED}),
    Phase.REVIEW: frozenset({Phase.HELD, Phase.LANDING, Phase.READY, Phase.STUCK, Phase.CANCELLED}),
    Phase.HELD: frozenset({Phase.REVIEW, Phase.READY, Phase.CANCELLED}),
    Phase.LANDING: frozenset({Phase.LANDED, Phase.REVIEW}),
    Phase.STUCK: frozenset({Phase.READY, Phase.CANCELLED}),
    Phase.LANDED: frozenset(),
    Phase.CANCELLED: frozenset(),
}

_ENDED = frozenset({RunState.DONE, RunState.FAILED, RunState.LOST, RunState.KILLED})
RUNS: dict[RunState, frozenset[RunState]] = {
    RunState.STARTING: frozenset({RunState.WORKING}) | _ENDED,
    RunState.WORKING: _ENDED,
    RunState.DONE: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.LOST: frozenset(),
    RunState.KILLED: frozenset(),
}

MERGES: dict[MergeState, frozenset[MergeState]] = {
    MergeState.QUEUED: frozenset({MergeState.LANDING, MergeState.REJECTED}),
    MergeState.LANDING: frozenset({MergeState.MERGED, MergeState.QUEUED}),
    MergeState.MERGED: frozenset(),
    MergeState.REJECTED: frozenset(),
}


def check_phase(old: Phase, new: Phase) -> None:
    """Conflict where a bead may not go from `old` to `new`."""
    if new not in PHASES[old]:
        raise Conflict(f"a bead cannot go from {old} to {new}")


def check_run(old: RunState, new: RunState) -> None:
    """Conflict where a run may not go from `old` to `new`."""
    if new not in RUNS[old]:
        raise Conflict(f"a run cannot go from {old} to {new}")


def check_merge(old: MergeState, new: MergeState) -> None:
    """Conflict where a merge may not go from `old` to `new`."""
    if new not in MERGES[old]:
        raise Conflict(f"a merge cannot go from {old} to {new}")


@dataclass(frozen=True)
class Rig:
    """A project repository, how it is worked on and what guards its main branch.

    `public` is what evidence calls the repository; `allow` names the kinds of
    surprising paths (see `queue.surprises`) that may land here.
    """

    name: str
    origin: str
    public: str
    branch: str
    agent: list[str]
    gates: list[list[str]]
    binds: list[str]
    allow: list[str]
    budget_seconds: int
    max_attempts: int
    added_at: str


@dataclass(frozen=True)
class Bead:
    """One piece of work on its way to main.

    `hold` true means a person approves before it lands; `approved_head` is the
    one commit that was approved.  `attempts` counts runs that the work itself
    spoiled, `losses` runs that the machine lost.
    """

    id: str
    rig: str
    title: str
    description: str
    author: str
    phase: Phase
    reason: str
    attempts: int
    losses: int
    budget_seconds: int
    sandbox: Sandbox
    hold: bool
    held_for: Hold
    approved_head: str | None
    wanted_id: str | None
    reported_at: str | None
    created_at: str
    updated_at: str


@dataclass(frozen=True)
class Run:
    """One start of an agent on a bead.

    A process is named by `pid`, `ticks` (its start, in clock ticks since boot)
    and `boot` together: a pid alone may be somebody else's by now.
    """

    id: str
    bead: str
    state: RunState
    base: str
    head: str | None
    level: str
    budget_seconds: int
    pid: int | None
    ticks: int | None
    boot: str | None
    started_at: str
    ended_at: str | None
    wall_seconds: int
    why: str

    @property
    def live(self) -> bool:
        """True while the run may have a process."""
        return self.state in (RunState.STARTING, RunState.WORKING)


@dataclass(frozen=True)
class Gate:
    """One check that was run on a merged result."""

    argv: list[str]
    exit: int
    log_sha256: str
    level: str


@dataclass(frozen=True)
class Merge:
    """A run's head on its way to main: `target` is `head` merged on `base`.

    `gates` belong to exactly this target; a new base empties both.
    """

    id: int
    bead: str
    run: str
    head: str
    state: MergeState
    base: str | None
    target: str | None
    green: bool
    gates: list[Gate]
    patch_sha256: str | None
    why: str


@dataclass(frozen=True)
class Request:
    """What a client asked of the supervisor; `args` is the verb's own object."""

    id: int
    at: str
    who: str
    verb: str
    args: dict[str, object]
    state: str
    answer: str


@dataclass(frozen=True)
class Event:
    """One line of the audit log; `sha256` covers it and the line before."""

    seq: int
    at: str
    kind: str
    ref: str
    body: str
    prev: str
    sha256: str
