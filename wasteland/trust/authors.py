"""What the authors of one wasteland signed: each key log, envelope and chain is looked at once.  Pure.

A verdict asks for the keys of a handle, for what an envelope says under them,
and for the state of one place of a chain.  All three are remembered here, so
that the verdicts on a whole commons cost what its envelopes cost, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count

from wasteland.errors import BadSignature
from wasteland.trust.binding import ChainState, Signed, check_chain, signed_link
from wasteland.trust.envelope import (
    COMPLETION,
    STAMP,
    Check,
    Envelope,
    Statement,
    did_key,
    kind_of,
    verify_envelope,
)
from wasteland.trust.registry import KeyLog, read_key_log

Reader = Callable[[str], Sequence[Envelope]]


class Chain:
    """The links of one author in one wasteland whose signatures hold, checked from front to back."""

    def __init__(self, links: Iterable[Signed] = ()) -> None:
        self.links = {link.sha256: link for link in links}
        self._states: dict[int, ChainState] | None = None

    def state(self, seq: int) -> ChainState:
        """What the place `seq` looks like; KeyError where no link stands there."""
        if self._states is None:
            self._states = check_chain(self.links.values())
        return self._states[seq]

    def gap(self) -> int:
        """The first place at which no link stands."""
        here = {link.seq for link in self.links.values()}
        return next(seq for seq in count() if seq not in here)

    def at(self, seq: int) -> list[Signed]:
        """The links that claim the place `seq`."""
        return [link for link in self.links.values() if link.seq == seq]

    def joined(self, links: Iterable[Signed]) -> Chain:
        """This chain with more links; itself where it has them all."""
        fresh = [link for link in links if link.sha256 not in self.links]
        return Chain([*self.links.values(), *fresh]) if fresh else self

    def prolonged_by(self, links: Sequence[Signed]) -> bool:
        """Whether `links` only go on at the end of a whole chain, so that no place before them looks otherwise now."""
        here = {link.seq: link.sha256 for link in self.links.values()}
        if len(here) != len(self.links) or self.gap() != len(here):
            return False
        for link in sorted(links):
            if link.seq != len(here) or (link.seq and here[link.seq - 1] != link.prev):
                return False
            here[link.seq] = link.sha256
        return True


class Authors:
    """The keys and chains of every handle of one wasteland.

    `key_events` and `attestations` give the envelopes that are said to be a
    handle's; they are asked at most once for each.  `chains` are chains that
    were checked before, under keys that are still the same.
    """

    def __init__(
        self,
        wasteland: str,
        key_events: Reader,
        attestations: Reader,
        check: Check,
        chains: Mapping[str, Chain] | None = None,
    ) -> None:
        self.wasteland = wasteland
        self._key_events = key_events
        self._attestations = attestations
        self._check = check
        self._logs: dict[str, KeyLog | BadSignature] = {}
        self._said: dict[tuple[str, Envelope], tuple[Statement, str] | BadSignature] = {}
        self.chains: dict[str, Chain] = dict(chains or {})

    def log(self, handle: str) -> KeyLog:
        """The keys of a handle; Undecided or BadSignature as `read_key_log` raises them."""
        if handle not in self._logs:
            try:
                self._logs[handle] = read_key_log(self._key_events(handle), handle, self.wasteland, self._check)
            except BadSignature as error:
                self._logs[handle] = error
        found = self._logs[handle]
        if isinstance(found, BadSignature):
            raise found.with_traceback(None)
        return found

    def signed(self, envelope: Envelope, handle: str, kind: str) -> tuple[Statement, str]:
        """What a key of `handle` signed in an envelope while it was good, and the key in words.

        Raises Undecided where the keys are not known, BadSignature where the
        envelope is not the handle's or not of this kind.
        """
        statement, told = self._read(envelope, handle)
        if kind_of(statement) != kind:
            raise BadSignature(f"the statement is not a {kind}")
        return statement, told

    def chain(self, handle: str) -> Chain:
        """The handle's chain here; empty where its keys are not known.  What the author did not sign is no link."""
        if handle not in self.chains:
            self.chains[handle] = Chain(self.links(self._attestations(handle), handle))
        return self.chains[handle]

    def links(self, envelopes: Iterable[Envelope], handle: str) -> list[Signed]:
        """The links of the handle's chain among `envelopes`."""
        found = []
        for envelope in envelopes:
            try:
                statement, _ = self._read(envelope, handle)
            except BadSignature:
                continue
            if kind_of(statement) in (STAMP, COMPLETION) and statement["predicate"]["wasteland"] == self.wasteland:
                found.append(signed_link(statement, envelope.sha256))
        return found

    def _read(self, envelope: Envelope, handle: str) -> tuple[Statement, str]:
        known = self._said.get((handle, envelope))
        if known is None:
            try:
                known = by_live_key(envelope, self.log(handle), self._check)
            except BadSignature as error:
                known = error
            self._said[handle, envelope] = known
        if isinstance(known, BadSignature):
            raise known.with_traceback(None)
        return known


def by_live_key(envelope: Envelope, log: KeyLog, check: Check) -> tuple[Statement, str]:
    """What a key of the log signed while it was good, and that key in words; else BadSignature."""
    statement = verify_envelope(envelope, [key.public for key in log.keys], check)
    said = statement["predicate"]
    if kind_of(statement) not in (STAMP, COMPLETION):
        raise BadSignature("the statement is neither a stamp nor a completion")
    if said["author"]["handle"] != log.handle:
        raise BadSignature(f"it names {said['author']['handle']} as its author, not {log.handle}")
    key = next((one for one in log.keys if did_key(one.public) == said["author"]["did"]), None)
    if key is None:
        raise BadSignature(f"the author's key is not one of {log.handle}'s")
    if len(log.keys) > 1:
        verify_envelope(envelope, [key.public], check)
    if key.last_good is not None and said["chain"]["seq"] > key.last_good:
        raise BadSignature(f"the key was revoked, last good seq {key.last_good}")
    revoked = "" if key.last_good is None else f"; revoked later, last good seq {key.last_good}"
    return statement, f"ok  Ed25519 {said['author']['did']}  (key event {key.seq} {key.kind}{revoked})"
