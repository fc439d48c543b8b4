"""What was found of a commons as of one commit, and what a later commit makes void of it.  Pure.

A verdict is a function of the rows and envelopes that it read.  So what was
found at one commit holds at a later one for every row that none of the rows
that differ can reach; `touched` says which those are.  Forgetting all of it
changes no answer.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Any, NamedTuple

from wasteland.models import RowDiff
from wasteland.trust.authors import Chain
from wasteland.trust.binding import Signed
from wasteland.trust.envelope import ZERO
from wasteland.trust.statements import WANTED_FIELDS
from wasteland.trust.verification import Verdict
from wasteland.values import dataclass

FORMAT = 1  # another number makes everything void: raise it when a verdict may come out differently
DIMENSIONS = ("quality", "reliability", "creativity")
TABLES = ("_meta", "stamps", "completions", "wanted", "wl_attestations", "wl_key_events")
PARENTS = "wl_parent_"
NAMES = {one.value: one.name.lower() for one in Verdict}
VERIFIED = Verdict.VERIFIED.value


class FoundStamp(NamedTuple):
    """The verdict on a stamp, and what standing and invalidation need of its row.

    `scores` are pairs of score and confidence by dimension, of the row as it is.
    """

    verdict: int
    subject: str
    author: str
    completion: str
    scores: dict[str, tuple[float, float]]


class FoundCompletion(NamedTuple):
    """The verdict on a completion, who made it, and for which item."""

    verdict: int
    by: str
    item: str


@dataclass
class Verified:
    """All verdicts on a commons at the commit `head`, and the chains behind them by wasteland and handle."""

    head: str
    stamps: dict[str, FoundStamp] = field(default_factory=dict)
    completions: dict[str, FoundCompletion] = field(default_factory=dict)
    chains: dict[str, dict[str, Chain]] = field(default_factory=dict)

    def standings(self) -> dict[str, dict[str, Any]]:
        """What each rig has to show: completions, stamps by verdict, and the means of its verified scores.

        A mean is weighed by the confidence of each score.  Unsigned stamps are
        counted as such and weigh nothing; so do invalid ones.
        """
        found: dict[str, dict[str, Any]] = defaultdict(lambda: nothing(""))
        weights: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0.0]))
        for done in self.completions.values():
            found[done.by]["completions"] += 1
        for stamp in self.stamps.values():
            found[stamp.subject]["stamps"][NAMES[stamp.verdict]] += 1
            if stamp.verdict == VERIFIED:
                for dim, (score, sure) in stamp.scores.items():
                    weighed = weights[stamp.subject][dim]
                    weighed[0] += sure * score
                    weighed[1] += sure
        for handle, dims in weights.items():
            found[handle]["scores"] = {
                dim: round(dims[dim][0] / dims[dim][1], 2) for dim in DIMENSIONS if dim in dims and dims[dim][1]
            }
        return {handle: one | {"handle": handle} for handle, one in found.items()}


def nothing(handle: str) -> dict[str, Any]:
    """The standing of a rig that has nothing to show."""
    return {
        "handle": handle, "completions": 0, "stamps": dict.fromkeys(NAMES.values(), 0), "scores": {},
    }  # fmt: skip


def scores(valence: Any) -> dict[str, tuple[float, float]]:
    """Score and confidence of each dimension that counts; what is no number counts for nothing."""
    if not isinstance(valence, dict):
        return {}
    found = {}
    for dim in DIMENSIONS:
        score, sure = _number(valence.get(dim)), _number(valence.get(f"{dim}_confidence", 1))
        if score is not None and sure is not None:
            found[dim] = (score, sure)
    return found


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@dataclass
class Touched:
    """What rows that differ make void: verdicts by id, chains by handle; `signers` have more links than before."""

    stamps: set[str] = field(default_factory=set)
    completions: set[str] = field(default_factory=set)
    handles: set[str] = field(default_factory=set)
    signers: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)


def touched(known: Verified, rows: Iterable[RowDiff]) -> Touched | None:
    """What these differences make void; None where it is everything."""
    found, items = Touched(), set()
    for row in rows:
        if row.table == "_meta" or row.table.startswith(PARENTS):
            return None
        sides = [side for side in (row.old, row.new) if side is not None]
        if row.table == "stamps":
            found.stamps.add(row.key)
        elif row.table == "completions":
            found.completions.add(row.key)
        elif row.table == "wanted" and (row.kind != "modified" or row.columns & set(WANTED_FIELDS)):
            items.add(row.key)
        elif row.table == "wl_key_events":
            found.handles |= {str(side.get("handle")) for side in sides}
        elif row.table == "wl_attestations":
            for side in sides:
                about = found.stamps if side.get("subject_table") == "stamps" else found.completions
                about.add(str(side.get("subject_id")))
            if row.kind == "added":
                found.signers.setdefault(str(row.row.get("signer")), []).append(row.row)
            else:
                found.handles |= {str(side.get("signer")) for side in sides}
    found.completions |= {name for name, done in known.completions.items() if done.item in items}
    of_handles(known, found, found.handles)
    judged = {name for name, done in known.completions.items() if done.by in found.handles} | found.completions
    found.stamps |= {name for name, stamp in known.stamps.items() if stamp.completion in judged}
    return found


def of_handles(known: Verified, found: Touched, handles: set[str]) -> None:
    """Make void all that these handles signed."""
    found.stamps |= {name for name, stamp in known.stamps.items() if stamp.author in handles}
    found.completions |= {name for name, done in known.completions.items() if done.by in handles}


def written(found: Verified, standings: Mapping[str, Any]) -> str:
    """The text of three lines: what each rig has to show, which is all that most commands ask for; verdicts; chains."""
    stamps = {name: list(one) for name, one in found.stamps.items()}
    completions = {name: list(one) for name, one in found.completions.items()}
    chains = {
        urn: {handle: _links(chain) for handle, chain in by_handle.items()} for urn, by_handle in found.chains.items()
    }
    first = {"format": FORMAT, "head": found.head, "standings": standings}
    return f"{_dumped(first)}\n{_dumped({'stamps': stamps, 'completions': completions})}\n{_dumped(chains)}\n"


def read_standings(text: str, head: str) -> dict[str, dict[str, Any]] | None:
    """What each rig has to show at the commit `head`, or None where the text is of another."""
    said = json.loads(text[: text.index("\n")])
    return said["standings"] if said.get("format") == FORMAT and said["head"] == head else None


def read(text: str) -> Verified | None:
    """What `written` wrote, or None for another format."""
    begun, verdicts, chains = text.splitlines()
    first, said = json.loads(begun), json.loads(verdicts)
    if first.get("format") != FORMAT:
        return None
    return Verified(
        first["head"],
        {name: FoundStamp(*one) for name, one in said["stamps"].items()},
        {name: FoundCompletion(*one) for name, one in said["completions"].items()},
        {
            urn: {handle: _chain(links) for handle, links in by_handle.items()}
            for urn, by_handle in json.loads(chains).items()
        },
    )


def _dumped(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _links(chain: Chain) -> list[Any]:
    """A chain's links: where each follows the one before it, the digest alone."""
    found: list[Any] = []
    before = ZERO
    for link in sorted(chain.links.values()):
        plain = link.seq == len(found) and link.prev == before
        found.append(link.sha256 if plain else list(link))
        before = link.sha256
    return found


def _chain(links: list[Any]) -> Chain:
    made: list[Signed] = []
    before = ZERO
    for one in links:
        link = Signed(len(made), before, one) if isinstance(one, str) else Signed(*one)
        made.append(link)
        before = link.sha256
    return Chain(made)
