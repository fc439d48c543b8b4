"""The seam to the Wasteland: orders in, evidence out.  The one reader of `wasteland.orders`.

Both ways go through the program `wl` ($WL, else on PATH), so that keys and the
commons stay with the node.  Here alone the two meanings of rig meet: an
order's `rig_handle` is a member of the Wasteland, `rig` a repository of the town.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from gastown.errors import NotFound, Refused, Unreachable
from gastown.models import Bead, Hold, Merge, Phase, Rig, Sandbox
from gastown.shim import write_over
from gastown.text import reason, without_secrets
from gastown.town import Town
from wasteland import orders
from wasteland.orders import WorkOrder, WorkReport

WANTED = re.compile(r"w-[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
TIMEOUT = 300
LEVELS = {"L0": 0, "L1": 1, "L2": 2, "L3": 3}


def is_wanted(target: str) -> bool:
    """True where the word is the id of a wanted item."""
    return bool(WANTED.match(target))


def _wl(*argv: str) -> str:
    """What `wl` printed; Unreachable with its own words where it failed."""
    command = [*shlex.split(os.environ.get("WL") or "wl"), *argv]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"the node did not answer: {error}", hint="set WL to the wl program", about="wl") from error
    if done.returncode:
        sentence = next((line for line in done.stderr.splitlines() if line.startswith("wl: ")), done.stderr)
        said = reason(sentence, f"exit code {done.returncode}")
        raise Unreachable(f"wl {argv[0]} {argv[1]} failed: {said}", about="wl")
    return done.stdout


def next_order(wanted_id: str) -> dict[str, Any]:
    """The order of a claimed wanted item, checked, as JSON; NotFound where the node has none."""
    text = _wl("orders", "next", "--json", "--id", wanted_id)
    try:
        found = json.loads(text)["orders"]
        made = [WorkOrder(**order) for order in found]
    except (ValueError, KeyError, TypeError) as error:
        raise Unreachable(f"the node's answer is not a list of orders: {error}", about="wl") from error
    for order in made:
        if order.wanted_id == wanted_id and is_wanted(order.wanted_id):
            return order.to_json()
    raise NotFound(f"the node has no order for {wanted_id}", hint=f"wl claim {wanted_id}", about=wanted_id)


def rig_for(order: Mapping[str, Any], rigs: Sequence[Rig], named: str | None) -> Rig:
    """The town's rig that an order is for.

    The one that the user named; else the one whose repository the order names;
    else the one called as the order's project; else the only one.  Refused
    where that leaves a doubt.
    """
    if named is not None:
        for rig in rigs:
            if rig.name == named:
                return rig
        raise NotFound(f"there is no rig {named}", hint="gt rig add NAME PATH", about=named)
    repository = order.get("repository")
    if repository:
        fit = [rig for rig in rigs if without_secrets(repository) in (rig.origin, rig.public)]
    else:
        fit = [rig for rig in rigs if rig.name == order.get("project")] or list(rigs)
    if len(fit) == 1:
        return fit[0]
    raise Refused("it is not clear which rig this order is for", hint="say --rig NAME")


def bead_for(order: Mapping[str, Any], bead_id: str, rig: Rig, budget_seconds: int, now: str) -> Bead:
    """The bead of an order: sandbox required, held for approval, whatever its text says."""
    return Bead(
        id=bead_id,
        rig=rig.name,
        title=str(order["title"]),
        description=str(order["description"]),
        author=str(order["posted_by"]),
        phase=Phase.READY,
        reason="",
        attempts=0,
        losses=0,
        budget_seconds=budget_seconds,
        sandbox=Sandbox.REQUIRED,
        hold=True,
        held_for=Hold.NONE,
        approved_head=None,
        wanted_id=str(order["wanted_id"]),
        reported_at=None,
        created_at=now,
        updated_at=now,
    )


def unreported(town: Town) -> list[Bead]:
    """Landed beads of wanted items whose evidence the node does not have yet."""
    return [b for b in town.ledger.beads() if b.phase is Phase.LANDED and b.wanted_id and not b.reported_at]


def report(town: Town, bead: Bead) -> None:
    """Hand a landed bead's evidence to the node; Unreachable where it did not take it.

    The file is the same at every try, so that a report that was taken just
    before a crash is taken again as the same one.
    """
    path = town.reports / f"{bead.id}.json"
    if not path.exists():
        write_over(path, report_of(town, bead).to_json())
    orders.parse_report(path.read_text(encoding="utf-8"))
    _wl("orders", "report", str(path))
    with town.ledger.tx():
        town.ledger.note_bead(bead.id, reported_at=town.ledger.now())


def report_of(town: Town, bead: Bead) -> WorkReport:
    """The evidence of a landed bead, from the ledger's facts and the objects of the commits that it names."""
    merge = town.ledger.load_merge(bead.id)
    runs = town.ledger.runs(bead.id)
    assert bead.wanted_id is not None
    assert merge.base is not None
    assert merge.target is not None
    rig = town.ledger.load_rig(bead.rig)
    listed = town.repo(rig).listed(orders.CHANGES, merge.base, merge.target)
    level = min([run.level for run in runs if run.id == merge.run] + _levels(merge), key=LEVELS.__getitem__)
    return WorkReport(
        wanted_id=bead.wanted_id,
        outcome="landed",
        repo=without_secrets(rig.public),
        base=merge.base,
        head=merge.target,
        changes_sha256=orders.changes_sha256(listed),
        schema_version=2,
        gates=[orders.Gate(gate.argv, gate.exit, gate.log_sha256) for gate in merge.gates],
        sandbox_level=level,
        sandbox_network="none" if LEVELS[level] >= LEVELS["L2"] else "host",
        wall_seconds=sum(run.wall_seconds for run in runs),
    )


def _levels(merge: Merge) -> list[str]:
    return [gate.level for gate in merge.gates]
