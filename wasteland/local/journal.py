"""The author chain's journal: what this machine signed, in order, on disk before it is used anywhere.

An append-only file of JSON Lines under a lock across processes.  `seq` and
`prev` of the next statement come from here and never from a branch at hand,
so that two branches cannot make one author sign two histories.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from wasteland.errors import Conflict, Misconfigured, NotFound, Refused
from wasteland.trust.envelope import Envelope, checked_statement, parse
from wasteland.trust.statements import Link, subject_of
from wasteland.values import dataclass

SIGNED, PUBLISHED, VOID = "signed", "published", "void"
WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Entry:
    """One link as this machine signed it, and what became of it."""

    state: str
    wasteland: str
    seq: int
    prev: str
    payload: str
    signatures: str
    payload_sha256: str
    subject_table: str
    subject_id: str

    @property
    def envelope(self) -> Envelope:
        """The envelope to publish."""
        return Envelope.from_columns(self.payload, self.signatures)


def _entry(envelope: Envelope, state: str) -> Entry:
    statement = checked_statement(parse(envelope.payload))
    table, row_id = subject_of(statement)
    said, columns = statement["predicate"], envelope.to_columns()
    chain = said["chain"]
    return Entry(
        state,
        said["wasteland"],
        chain["seq"],
        chain["prev"],
        columns["payload"],
        columns["signatures"],
        envelope.sha256,
        table,
        row_id,
    )


class Journal:
    """The journal at `path`, for one key; holds the chains of any number of wastelands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = threading.RLock()
        self._owner: int | None = None
        self._held: tuple[dict[str, Entry], int] | None = None  # what the file holds, while the lock is held

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the journal against every other process and thread; Conflict after 30 seconds of waiting."""
        with self._threads:
            if self._owner is not None:
                yield
                return
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._wait(lock)
                self._owner = threading.get_ident()
                yield
            finally:
                self._owner = self._held = None
                os.close(lock)

    def _wait(self, lock: int) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise Conflict("another program is signing with this key", about=str(self.path)) from error
                time.sleep(0.02)

    def head(self, wasteland: str) -> Link:
        """The (seq, prev) that the next statement must carry; only true for as long as the lock is held."""
        last = max(self._live(wasteland), key=lambda one: one.seq, default=None)
        return Link(0) if last is None else Link(last.seq + 1, last.payload_sha256)

    def append(self, envelope: Envelope) -> Entry:
        """Record a signed link; on disk when this returns, and only then may it leave the machine.

        Within `locked()`.  Conflict where it is not the next link of its chain.
        """
        if self._owner != threading.get_ident():
            raise RuntimeError("Journal.append outside of Journal.locked")
        entry = _entry(envelope, SIGNED)
        if Link(entry.seq, entry.prev) != self.head(entry.wasteland):
            raise Conflict(f"seq {entry.seq} is not the next link of the chain", about=entry.subject_id)
        self._write([asdict(entry)])
        return entry

    def mark_published(self, payload_sha256: str) -> None:
        """Record that others can have seen the link; it can never be void again."""
        with self.locked():
            entry = self._load(payload_sha256)
            if entry.state == VOID:
                raise Refused("a void link cannot be published", about=payload_sha256)
            if entry.state == SIGNED:
                self._write([{"state": PUBLISHED, "payload_sha256": payload_sha256}])

    def mark_void(self, payload_sha256: str) -> None:
        """Take back the last link, so that its seq is used again.

        Only for a caller who has proved that it never left this machine: if
        it did, the next signature makes the author an equivocator.  Refused
        for a published link and for one that others stand on.
        """
        with self.locked():
            entry = self._load(payload_sha256)
            if entry.state == PUBLISHED:
                raise Refused("a published link cannot be void", about=payload_sha256)
            if entry.state == VOID:
                return
            if self.head(entry.wasteland).prev != payload_sha256:
                raise Refused("later links stand on this one", hint="void the later ones first", about=payload_sha256)
            self._write([{"state": VOID, "payload_sha256": payload_sha256}])

    def unpublished(self, wasteland: str) -> list[Entry]:
        """The links that were signed and not yet seen published, in order."""
        return [one for one in self._live(wasteland) if one.state == SIGNED]

    def entries(self, wasteland: str) -> list[Entry]:
        """The published links, in order."""
        return [one for one in self._live(wasteland) if one.state == PUBLISHED]

    def import_entries(self, envelopes: Iterable[Envelope]) -> int:
        """Take up one's own published chain on a machine without a journal; how many links were new.

        The caller has verified the signatures.  Known links are skipped;
        Conflict where one does not continue the chain, and then none is taken.
        """
        with self.locked():
            heads: dict[str, Link] = {}
            new: list[dict[str, Any]] = []
            known = self._read()[0]
            found = sorted((_entry(one, PUBLISHED) for one in envelopes), key=lambda one: (one.wasteland, one.seq))
            for entry in found:
                if entry.payload_sha256 in known and known[entry.payload_sha256].state != VOID:
                    continue
                head = heads.get(entry.wasteland) or self.head(entry.wasteland)
                if Link(entry.seq, entry.prev) != head:
                    raise Conflict(f"link {entry.seq} does not continue the journal", about=entry.subject_id)
                heads[entry.wasteland] = Link(entry.seq + 1, entry.payload_sha256)
                new.append(asdict(entry))
            self._write(new)
            return len(new)

    def _live(self, wasteland: str) -> list[Entry]:
        found = [one for one in self._read()[0].values() if one.wasteland == wasteland and one.state != VOID]
        return sorted(found, key=lambda one: one.seq)

    def _load(self, payload_sha256: str) -> Entry:
        entry = self._read()[0].get(payload_sha256)
        if entry is None:
            raise NotFound("the journal has no such link", about=payload_sha256)
        return entry

    def _read(self) -> tuple[dict[str, Entry], int]:
        """The entries by digest, and the length of the file up to its last whole line.

        A last line that kill -9 or a power cut left torn was never
        acknowledged and is dropped; damage before it is not ours to guess at.
        """
        held = self._owner == threading.get_ident()
        if held and self._held is not None:
            return self._held
        found = self._parsed()
        self._held = found if held else None
        return found

    def _parsed(self) -> tuple[dict[str, Entry], int]:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}, 0
        entries: dict[str, Entry] = {}
        lines = data.split(b"\n")[:-1]
        good = 0
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                sha = record["payload_sha256"]
                entries[sha] = Entry(**record) if "payload" in record else replace(entries[sha], state=record["state"])
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines) and data.endswith(b"\n") and b"\0" in line:
                    break
                raise Misconfigured(f"line {number} of the signing journal is damaged", about=str(self.path)) from error
            good += len(line) + 1
        return entries, good

    def _write(self, records: list[dict[str, Any]]) -> None:
        data = b"".join(json.dumps(one).encode() + b"\n" for one in records)
        keep = self._read()[1]
        self._held = None
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(file, keep)
            os.lseek(file, keep, os.SEEK_SET)
            with os.fdopen(os.dup(file), "wb") as out:
                out.write(data)
            os.fsync(file)
        except OSError as error:
            raise Misconfigured(f"the signing journal cannot be written: {error}", about=str(self.path)) from error
        finally:
            os.close(file)
        sync_folder(self.path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on disk."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
