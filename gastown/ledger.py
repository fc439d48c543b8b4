"""The town's state in SQLite; every transition is one transaction with its audit event.

One supervisor writes engine rows.  Clients insert requests; set-up (`gt rig
add`) inserts rigs.  WAL lets everybody read meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from gastown import models
from gastown.errors import Conflict, Misconfigured, NotFound, Refused
from gastown.models import Bead, Event, Gate, Hold, Merge, MergeState, Phase, Request, Rig, Run, RunState, Sandbox
from gastown.text import without_secrets

BUSY_MS = 10_000
SCHEMA_VERSION = 1
GENESIS = "0" * 64
COLUMNS = {
    "bead": {"reason", "attempts", "losses", "budget_seconds", "sandbox", "held_for", "approved_head", "reported_at"},
    "run": {"head", "pid", "ticks", "boot", "ended_at", "wall_seconds", "why"},
    "merge": {"base", "target", "green", "gates", "patch_sha256", "why"},
}


def schema() -> str:
    """The text of town.sql: from the installed package, else from the source tree."""
    packaged = resources.files("gastown").joinpath("schema/town.sql")
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[1] / "schema" / "town.sql").read_text(encoding="utf-8")


def digest(prev: str, seq: int, at: str, kind: str, ref: str, body: str) -> str:
    """SHA-256 of an event and of the one before it, in hex."""
    return hashlib.sha256(json.dumps([prev, seq, at, kind, ref, body]).encode()).hexdigest()


class Ledger:
    """One connection to the ledger.  `clock` gives the time of every row."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        if not path.exists():
            raise NotFound("there is no town here", hint="gt install PATH", about=str(path))
        self._clock = clock
        self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_MS / 1000)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MS}"):
            self._db.execute(f"PRAGMA {pragma}")
        if (version := self._db.execute("PRAGMA user_version").fetchone()[0]) != SCHEMA_VERSION:
            self._db.close()
            raise Misconfigured(
                f"the ledger has schema {version}; this program reads {SCHEMA_VERSION}", about=str(path)
            )

    @staticmethod
    def create(path: Path) -> None:
        """Make an empty ledger, whole or not at all; Conflict where there is one."""
        if path.exists():
            raise Conflict("there is a town here already", about=str(path.parent))
        made = path.with_name(f".{path.name}.new")
        made.unlink(missing_ok=True)
        db = sqlite3.connect(made)
        try:
            db.executescript(schema())
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            db.commit()
        finally:
            db.close()
        made.rename(path)

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self._db.close()

    @contextmanager
    def tx(self) -> Iterator[None]:
        """One transaction; inside another one it is part of that."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def now(self) -> str:
        """The time as it is stored: UTC, ISO 8601."""
        return self._clock().isoformat(timespec="seconds")

    # What the ledger knows about itself.

    def meta(self, key: str) -> str:
        """A value of the town; "" when it was never set."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return "" if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Set a value of the town."""
        self._db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    # Rigs.

    def add_rig(self, rig: Rig) -> None:
        """Add a rig; Conflict where the name is taken."""
        with self.tx():
            if any(known.name == rig.name for known in self.rigs()):
                raise Conflict(f"there is a rig {rig.name} already", about=rig.name)
            self._insert("rig", asdict(rig))
            said = [[without_secrets(word) for word in words] for words in (*rig.gates, rig.agent)]
            self.event("rig.added", rig.name, origin=without_secrets(rig.origin), gates=said[:-1], agent=said[-1])

    def rigs(self) -> list[Rig]:
        """All rigs, by name."""
        return [_rig(row) for row in self._db.execute("SELECT * FROM rig ORDER BY name")]

    def load_rig(self, name: str) -> Rig:
        """The rig of that name; NotFound."""
        for rig in self.rigs():
            if rig.name == name:
                return rig
        raise NotFound(f"there is no rig {name}", hint="gt rig add NAME PATH", about=name)

    # Beads, runs, merges.

    def add_bead(self, bead: Bead) -> None:
        """Add a bead; Conflict where the id or the wanted item is here already."""
        with self.tx():
            try:
                self._insert("bead", asdict(bead))
            except sqlite3.IntegrityError as error:
                raise Conflict(
                    f"there is a bead {bead.id} or one for {bead.wanted_id} already", about=bead.id
                ) from error
            self.event(
                "bead.added", bead.id, rig=bead.rig, wanted_id=bead.wanted_id, budget_seconds=bead.budget_seconds
            )

    def beads(self) -> list[Bead]:
        """All beads, oldest first."""
        return [_bead(row) for row in self._db.execute("SELECT * FROM bead ORDER BY created_at, rowid")]

    def load_bead(self, bead_id: str) -> Bead:
        """The bead of that id; NotFound."""
        row = self._db.execute("SELECT * FROM bead WHERE id = ?", (bead_id,)).fetchone()
        if row is None:
            raise NotFound(f"there is no bead {bead_id}", hint="gt status", about=bead_id)
        return _bead(row)

    def bead_of_wanted(self, wanted_id: str) -> Bead | None:
        """The bead that was made for a wanted item, if any."""
        row = self._db.execute("SELECT * FROM bead WHERE wanted_id = ?", (wanted_id,)).fetchone()
        return None if row is None else _bead(row)

    def move_bead(self, bead_id: str, to: Phase, **columns: object) -> None:
        """Take a bead to another phase, with new values of its columns; Conflict where that is not legal."""
        with self.tx():
            old = self.load_bead(bead_id).phase
            models.check_phase(old, to)
            now = self.now()
            self._update("bead", "id", bead_id, {**columns, "phase": to, "updated_at": now}, ("phase", old))
            self.event(
                f"bead.{to}", bead_id, old=old, **{k: v for k, v in columns.items() if k in ("reason", "held_for")}
            )

    def note_bead(self, bead_id: str, **columns: object) -> None:
        """Change columns of a bead without moving it; silent when nothing differs."""
        bead = self.load_bead(bead_id)
        if any(getattr(bead, key) != value for key, value in columns.items()):
            with self.tx():
                self._update("bead", "id", bead_id, {**columns, "updated_at": self.now()}, ("phase", bead.phase))
                self.event("bead.note", bead_id, **columns)

    def add_run(self, run: Run) -> None:
        """Add a run; Conflict where the bead has a live one."""
        with self.tx():
            try:
                self._insert("run", asdict(run))
            except sqlite3.IntegrityError as error:
                raise Conflict(f"{run.bead} has a live run already", about=run.bead) from error
            self.event("run.starting", run.id, bead=run.bead, base=run.base, level=run.level)

    def runs(self, bead_id: str | None = None) -> list[Run]:
        """All runs, or those of one bead, oldest first."""
        rows = self._db.execute("SELECT * FROM run WHERE ? IS NULL OR bead = ? ORDER BY rowid", (bead_id, bead_id))
        return [Run(**{**dict(row), "state": RunState(row["state"])}) for row in rows]

    def move_run(self, run: Run, to: RunState, **columns: object) -> None:
        """Take a run to another state; a last state gets its time of ending."""
        models.check_run(run.state, to)
        with self.tx():
            ended = {} if to is RunState.WORKING else {"ended_at": self.now()}
            self._update("run", "id", run.id, {**ended, **columns, "state": to}, ("state", run.state))
            self.event(f"run.{to}", run.id, bead=run.bead, **columns)

    def add_merge(self, bead_id: str, run_id: str, head: str) -> None:
        """Queue a finished run's head for main."""
        with self.tx():
            self._insert("merge", {"bead": bead_id, "run": run_id, "head": head, "state": "queued"})
            self.event("merge.queued", bead_id, run=run_id, head=head)

    def merges(self, bead_id: str | None = None) -> list[Merge]:
        """All merges, or those of one bead, oldest first."""
        rows = self._db.execute("SELECT * FROM merge WHERE ? IS NULL OR bead = ? ORDER BY id", (bead_id, bead_id))
        return [_merge(row) for row in rows]

    def load_merge(self, bead_id: str) -> Merge:
        """The newest merge of a bead; NotFound."""
        found = self.merges(bead_id)
        if not found:
            raise NotFound(f"{bead_id} has no commits to land", about=bead_id)
        return found[-1]

    def write_merge(self, merge: Merge, to: MergeState, **columns: object) -> None:
        """Change a merge, and its state if `to` differs from it."""
        if to is not merge.state:
            models.check_merge(merge.state, to)
        with self.tx():
            shown = {k: v for k, v in columns.items() if k != "gates"}
            gates = columns.get("gates")
            if isinstance(gates, list):
                shown["gates"] = [asdict(gate) for gate in gates]
                columns["gates"] = json.dumps(shown["gates"])
            self._update("merge", "id", merge.id, {**columns, "state": to}, ("state", merge.state))
            self.event(f"merge.{to}", merge.bead, run=merge.run, **shown)

    # Requests.

    def ask(self, verb: str, who: str, args: dict[str, object]) -> int:
        """Leave a request for the supervisor; its number."""
        with self.tx():
            row = {"at": self.now(), "who": who, "verb": verb, "args": json.dumps(args)}
            number = self._insert("request", row)
            self.event("request.new", str(number), verb=verb, who=who)
        return number

    def requests(self, state: str = "new") -> list[Request]:
        """Requests in a state, oldest first."""
        rows = self._db.execute("SELECT * FROM request WHERE state = ? ORDER BY id", (state,))
        return [Request(**{**dict(row), "args": json.loads(row["args"])}) for row in rows]

    def answer(self, request: Request, state: str, answer: str) -> None:
        """Answer a request once."""
        with self.tx():
            self._update("request", "id", request.id, {"state": state, "answer": answer}, ("state", "new"))
            self.event(f"request.{state}", str(request.id), verb=request.verb, answer=answer)

    # The audit log.

    def event(self, kind: str, ref: str, **body: object) -> None:
        """Append to the audit log, inside the transaction that it tells of."""
        if not self._db.in_transaction:
            raise AssertionError("an event is written in the transaction of what happened")
        last = self._db.execute("SELECT seq, sha256 FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        seq, prev = (1, GENESIS) if last is None else (last["seq"] + 1, last["sha256"])
        at, text = self.now(), json.dumps(body, sort_keys=True, ensure_ascii=False)
        row = {"seq": seq, "at": at, "kind": kind, "ref": ref, "body": text, "prev": prev}
        self._insert("event", {**row, "sha256": digest(prev, seq, at, kind, ref, text)})

    def events(self, last: int | None = None, ref: str | None = None) -> list[Event]:
        """Events in order: all, the `last` ones, those about `ref`."""
        rows = self._db.execute("SELECT * FROM event WHERE ? IS NULL OR ref = ? ORDER BY seq", (ref, ref)).fetchall()
        return [Event(**dict(row)) for row in (rows if last is None else rows[-last:])]

    def verify(self) -> int:
        """The number of events if each follows from the one before; Refused at the first that does not."""
        prev, count = GENESIS, 0
        for event in self.events():
            made = digest(prev, event.seq, event.at, event.kind, event.ref, event.body)
            if (event.prev, event.sha256, event.seq) != (prev, made, count + 1):
                raise Refused(f"the log was changed at event {event.seq}", about=str(event.seq))
            prev, count = event.sha256, count + 1
        return count

    def _insert(self, table: str, row: dict[str, Any]) -> int:
        values = {key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()}
        names = ", ".join(values)
        marks = ", ".join(f":{key}" for key in values)
        return self._db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values).lastrowid or 0

    def _update(self, table: str, key: str, value: object, new: dict[str, Any], guard: tuple[str, object]) -> None:
        known = COLUMNS.get(table, {"answer"}) | {"phase", "state", "updated_at"}
        if not set(new) <= known:
            raise AssertionError(f"{table} has no column for {sorted(set(new) - known)}")
        sets = ", ".join(f"{name} = :{name}" for name in new)
        sql = f"UPDATE {table} SET {sets} WHERE {key} = :_key AND {guard[0]} = :_guard"
        if self._db.execute(sql, {**new, "_key": value, "_guard": guard[1]}).rowcount != 1:
            raise Conflict(f"{table} {value} was changed by another process", about=str(value))


def _rig(row: sqlite3.Row) -> Rig:
    lists = {key: json.loads(row[key]) for key in ("agent", "gates", "binds", "allow")}
    return Rig(**{**dict(row), **lists})


def _bead(row: sqlite3.Row) -> Bead:
    typed = {
        "phase": Phase(row["phase"]),
        "sandbox": Sandbox(row["sandbox"]),
        "held_for": Hold(row["held_for"]),
        "hold": bool(row["hold"]),
    }
    return Bead(**{**dict(row), **typed})


def _merge(row: sqlite3.Row) -> Merge:
    gates = [Gate(**gate) for gate in json.loads(row["gates"])]
    return Merge(**{**dict(row), "state": MergeState(row["state"]), "green": bool(row["green"]), "gates": gates})
