"""What rules read and say: findings, a judgement of a whole pull request, and upstream as it is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from wasteland.rules.lifecycle import Transition
from wasteland.values import dataclass

if TYPE_CHECKING:
    from wasteland.trust.envelope import Envelope

QUARANTINE, REJECT, REVIEW, AUTO, NOTHING = "quarantine", "reject", "review", "auto", "nothing"
ORDER = (NOTHING, AUTO, REVIEW, REJECT, QUARANTINE)


@dataclass(frozen=True)
class Finding:
    """What a rule says of one row or table: its verdict, the rule's name, and a sentence."""

    verdict: str
    rule: str
    detail: str


@dataclass(frozen=True)
class Upstream:
    """What the rules read of upstream: rows at its main, by id, as far as the rows that are judged name them.

    `attestations` gives what a handle signed at some places of its chain and next to them.
    """

    wasteland: str
    rigs: Mapping[str, Mapping[str, Any]]
    completions: Mapping[str, Mapping[str, Any]]
    roles: Callable[[str], frozenset[str]]
    key_events: Callable[[str], Sequence[Envelope]]
    role_documents: Sequence[Envelope] = ()
    attestations: Callable[[str, Collection[int]], Sequence[Envelope]] = lambda _handle, _places: ()
    stamp_authors: Mapping[str, str] = field(default_factory=dict)
    leases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # rows of wl_leases, by item
    leased: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # and the rows of `wanted` that they are of
    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)  # no lease has ended by then, and none may be written


@dataclass
class Judgement:
    """All findings about one pull request; `steps` are the item's transitions it holds."""

    findings: list[Finding] = field(default_factory=list)
    steps: dict[str, list[Transition]] = field(default_factory=dict)
    actor: str | None = None

    @property
    def verdict(self) -> str:
        """The worst of all findings; `reject` where nothing was found to let it through."""
        return max((f.verdict for f in self.findings), key=ORDER.index, default=REJECT)

    def add(self, verdict: str, rule: str, detail: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(verdict, rule, detail))
