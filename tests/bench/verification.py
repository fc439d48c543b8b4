"""What it costs to verify a commons of many signed rows: the first time, again, and after one more stamp.

The commons is made here and really signed: `rows` stamps and completions, half
of each, by a few workers and validators, so that chains are long.  CPU and
memory are those of the `wl` process; the targets are the project's own, for
two cores, and only the growth is a ratio.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.bench.cost import Cost, cost_of
from tests.conftest import User, World
from wasteland.commons import rigs, signatures, stamp_time
from wasteland.local import config
from wasteland.local.keys import Key, KeyStore, sign_statement
from wasteland.models import Rig
from wasteland.node import standing
from wasteland.node.node import Node
from wasteland.trust.envelope import ZERO, Statement
from wasteland.trust.statements import (
    Link,
    Party,
    attestation_row,
    completion_statement,
    key_event_row,
    key_event_statement,
    manifest_digest,
    stamp_statement,
    text_manifest,
    valence_of,
    wanted_digest,
)

WORKERS, VALIDATORS = 5, 2
BATCH = 250
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SCORES = {"quality": (4, 900), "reliability": (3, 800), "creativity": (5, 500)}
# What is judged, for 10,000 rows: seconds (of CPU where it says so), MiB, and a factor.
TARGETS = {
    "first, CPU s": 12.0,
    "first, MiB": 300.0,
    "again: wl me, s": 0.4,
    "again: wl leaderboard, s": 0.4,
    "one more stamp: wl me, s": 0.5,
    "one more stamp: wl leaderboard, s": 0.5,
    "growth from half": 2.3,
}


@dataclass
class Signer:
    """A rig with its key and the head of its chain."""

    key: Key
    link: Link = field(default_factory=lambda: Link(0, ZERO))

    @property
    def party(self) -> Party:
        return Party(self.key.handle, self.key.did)


class Commons:
    """A wasteland of one machine with `rows` signed stamps and completions."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.pairs = rows // 2
        self.user: User = World(folder).user("poster")
        self.user.ok("create", "acme/commons", "--local-only", "--handle", "poster")
        store = KeyStore(folder / "keys", "file")
        names = [f"worker-{n}" for n in range(WORKERS)] + [f"validator-{n}" for n in range(VALIDATORS)]
        self.signers = [Signer(store.make(name)) for name in names]
        self.made = 0
        home = self.user.home
        self.paths = config.Paths(home, home / ".config", home / ".local" / "share")

    def build(self) -> None:
        """Register the rigs, and write all rows in a few commits."""
        node = self.node()
        try:
            with node.db.change("Register rigs"):
                self._register(node)
            while self.made < self.pairs:
                with node.db.change("Work"):
                    self._write(node, min(BATCH, self.pairs - self.made))
        finally:
            node.close()

    def more(self) -> None:
        """One completion and its stamp more."""
        node = self.node()
        try:
            with node.db.change("One more"):
                self._write(node, 1)
        finally:
            node.close()

    def node(self) -> Node:
        """The poster's node in this process; the caller closes it."""
        return Node(config.load(self.paths, "acme/commons"), self.paths)

    def _register(self, node: Node) -> None:
        for signer in self.signers:
            rigs.register(node.db, Rig(signer.key.handle, signer.key.handle, signer.key.handle), BEGAN)
            said = key_event_statement(
                wasteland=standing.wasteland_id(node), handle=signer.key.handle, public=signer.key.public,
                next_sha256=signer.key.next_sha256, dolthub_org=signer.key.handle, issued_at=BEGAN,
            )  # fmt: skip
            signatures.insert_key_event(node.db, key_event_row(sign_statement(signer.key, said), said, BEGAN))

    def _write(self, node: Node, count: int) -> None:
        urn = standing.wasteland_id(node)
        found: dict[str, list[dict[str, Any]]] = {"wanted": [], "completions": [], "stamps": [], "wl_attestations": []}
        for number in range(self.made, self.made + count):
            worker = self.signers[number % WORKERS]
            validator = self.signers[WORKERS + number % VALIDATORS]
            for table, row in self._pair(urn, number, worker, validator):
                found[table].append(row)
        self.made += count
        for table, rows in found.items():
            insert_all(node, table, rows)

    def _pair(self, urn: str, number: int, worker: Signer, validator: Signer) -> list[tuple[str, dict[str, Any]]]:
        now = BEGAN + timedelta(minutes=number)
        at = stamp_time(now)
        item = {
            "id": f"w-{number:010x}", "title": f"Item {number}", "description": "What is wanted, in a line of words",
            "project": "bench", "type": "bug", "posted_by": "poster", "effort_level": "small", "status": "completed",
            "claimed_by": worker.key.handle, "created_at": at, "updated_at": at, "tags": None, "sandbox_required": 0,
            "sandbox_scope": None,
        }  # fmt: skip
        evidence = text_manifest(f"https://example.com/{number}")
        done_id, stamp_id = f"c-{number:016x}", f"s-{number:016x}"
        said = completion_statement(
            wasteland=urn, completion=done_id, author=worker.party, wanted=item["id"],
            wanted_sha256=wanted_digest(item), evidence=evidence, sandbox_level="none", sandbox_network="unknown",
            issued_at=now, chain=worker.link,
        )  # fmt: skip
        done_sha, done_row = self._signed(worker, said, now)
        judged = stamp_statement(
            wasteland=urn, stamp_id=stamp_id, author=validator.party, rig=worker.party, scores=SCORES, confidence=800,
            severity="leaf", completion=done_id, completion_sha256=done_sha, wanted=item["id"],
            wanted_sha256=wanted_digest(item), evidence_sha256=manifest_digest(evidence), commit=None,
            skill_tags=["python"], message="Well done", issued_at=now, chain=validator.link,
        )  # fmt: skip
        stamp_sha, stamp_row = self._signed(validator, judged, now)
        return [
            ("wanted", item),
            ("completions", {
                "id": done_id, "wanted_id": item["id"], "completed_by": worker.key.handle,
                "evidence": f"https://example.com/{number}", "block_hash": done_sha, "completed_at": at,
                "validated_by": validator.key.handle, "stamp_id": stamp_id, "validated_at": at,
            }),
            ("stamps", {
                "id": stamp_id, "author": validator.key.handle, "subject": worker.key.handle,
                "valence": json.dumps(valence_of(SCORES)), "confidence": 0.8, "severity": "leaf",
                "context_id": done_id, "context_type": "completion", "skill_tags": '["python"]',
                "message": "Well done", "block_hash": stamp_sha, "created_at": at,
            }),
            ("wl_attestations", done_row),
            ("wl_attestations", stamp_row),
        ]  # fmt: skip

    def _signed(self, signer: Signer, said: Statement, now: datetime) -> tuple[str, dict[str, Any]]:
        envelope = sign_statement(signer.key, said)
        signer.link = Link(signer.link.seq + 1, envelope.sha256)
        row = attestation_row(envelope, said, now)
        return envelope.sha256, row | {"created_at": stamp_time(now)}

    def cost(self, *words: str) -> Cost:
        """Run `wl` as the rig, which must succeed."""
        return cost_of(self.user, *words)

    def forget(self) -> None:
        """Remove what was remembered of the verdicts."""
        (self.user.clone().parent / ".commons.node" / "verified").unlink()


def insert_all(node: Node, table: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows of the same columns in one statement, inside a change."""
    names = list(rows[0])
    marks = ", ".join(f"({', '.join(f':r{at}_{name}' for name in names)})" for at in range(len(rows)))
    values = {f"r{at}_{name}": row[name] for at, row in enumerate(rows) for name in names}
    node.db.run(f"INSERT INTO {table} ({', '.join(names)}) VALUES {marks}", **values)


def best(commons: Commons, *words: str, rounds: int = 3) -> Cost:
    """The cheapest of a few runs: what else the machine does only adds."""
    return min((commons.cost(*words) for _ in range(rounds)), key=lambda cost: cost.wall)


def measured(folder: Path, rows: int) -> dict[str, float]:
    """The figures of a commons with `rows` rows, and the growth from half as many."""
    half, whole = Commons(folder / "half", rows // 2), Commons(folder / "whole", rows)
    found: dict[str, float] = {}
    try:
        half.build()
        before = min(half.cost("verify", "--all").cpu for _ in range(2))
        whole.build()
        first = min((whole.cost("verify", "--all") for _ in range(2)), key=lambda cost: cost.cpu)
        whole.forget()
        alone = whole.cost("leaderboard")
        found["first, CPU s"] = max(first.cpu, alone.cpu)
        found["first, MiB"] = max(first.memory, alone.memory)
        found["growth from half"] = first.cpu / before
        for verb in ("me", "leaderboard"):
            found[f"again: wl {verb}, s"] = best(whole, verb).wall
        for verb in ("me", "leaderboard"):
            costs = []
            for _ in range(3):
                whole.more()
                costs.append(whole.cost(verb).wall)
            found[f"one more stamp: wl {verb}, s"] = min(costs)
    finally:
        half.user.stop()
        whole.user.stop()
    return found


def main() -> None:
    """Print the figures, and fail where a target is missed."""
    parser = argparse.ArgumentParser(prog="scripts/bench --verify")
    parser.add_argument("rows", type=int, nargs="?", default=10_000, metavar="N")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wl-bench-") as folder:
        found = measured(Path(folder), given.rows)
    if given.json:
        print(json.dumps({"rows": given.rows, "found": found, "targets": TARGETS}))
    else:
        print(f"{given.rows} stamps and completions")
        for name, target in TARGETS.items():
            print(
                f"  {name:<34} {found[name]:>8.2f}   at most {target:g}{'' if found[name] <= target else '   MISSED'}"
            )
    late = [name for name, target in TARGETS.items() if found[name] > target]
    sys.exit(1 if late else 0)


if __name__ == "__main__":
    main()
