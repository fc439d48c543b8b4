"""The Refinery: merge on the current main, test the merged result, and only then move main."""

from __future__ import annotations

import hashlib
import secrets
import shutil

from gastown import agent, budget, queue, sandbox
from gastown.clone import Clone
from gastown.errors import Refused
from gastown.git import Repo
from gastown.models import Bead, Gate, Hold, Merge, MergeState, Phase, Rig, Run
from gastown.polecat import NO_BOX
from gastown.steps import step
from gastown.town import Town

TREE_CHANGED = 125
"""The exit code on record for a gate that passed and changed what it tested."""


def settle(town: Town, merge: Merge) -> None:
    """Decide from git what became of a merge that was `landing`: main holds its target, or not."""
    bead = town.ledger.load_bead(merge.bead)
    repo = town.repo(town.ledger.load_rig(bead.rig))
    assert merge.target is not None
    landed = repo.is_ancestor(merge.target, repo.fetch())
    with town.ledger.tx():
        if landed:
            town.ledger.write_merge(merge, MergeState.MERGED)
            town.ledger.move_bead(bead.id, Phase.LANDED, reason="")
        else:
            town.ledger.write_merge(merge, MergeState.QUEUED)
            town.ledger.move_bead(bead.id, Phase.REVIEW, reason="main had moved; merging again")
    step("merge.landed")


def advance(town: Town, bead: Bead) -> bool:
    """Take a bead in review one step towards main; False when this machine may not.

    A target is made and tested once for each base.  A bead with `hold` stops
    at `held` until its very head was approved.
    """
    rig = town.ledger.load_rig(bead.rig)
    repo = town.repo(rig)
    merge = town.ledger.load_merge(bead.id)
    base = repo.fetch()
    if merge.base != base or not merge.green:
        tested = _test(town, bead, rig, repo, merge, base)
        if tested is None:
            return False
        if not tested:
            return True
        merge = town.ledger.load_merge(bead.id)
    if bead.hold and bead.approved_head != merge.head:
        town.ledger.move_bead(bead.id, Phase.HELD, held_for=Hold.APPROVAL, reason="waits for approval")
        return True
    _land(town, repo, merge)
    return True


def _test(town: Town, bead: Bead, rig: Rig, repo: Repo, merge: Merge, base: str) -> bool | None:
    """Merge on `base` and run the gates: green, rejected (False), or not to be run here (None)."""
    run = next(run for run in town.ledger.runs(bead.id) if run.id == merge.run)
    if town.box.level == "L0" and run.level != "L0":
        reason = f"{NO_BOX}, which refuses to run gates without a box: {'; '.join(town.box.reasons)}"
        town.ledger.note_bead(bead.id, reason=reason)
        return None
    made = repo.merge(base, merge.head, _message(bead, run), f"@{int(town.clock().timestamp())} +0000")
    if made.target is None:
        _reject(town, bead, rig, merge, "conflict with main:\n" + "\n".join(made.conflicts[:20]))
        return False
    step("merge.made")
    if found := queue.surprises(repo.changes(base, made.target), rig.allow):
        _reject(town, bead, rig, merge, "paths that need a person's leave:\n" + "\n".join(found[:20]))
        return False
    gates, why = _gates(town, bead, rig, repo, made.target)
    step("merge.gated")
    if why:
        _reject(town, bead, rig, merge, why, gates)
        return False
    digest = repo.patch_sha256(base, made.target)
    repo.keep(f"merge/{merge.run}", made.target)
    town.ledger.write_merge(
        merge, MergeState.QUEUED, base=base, target=made.target, green=True, gates=gates, patch_sha256=digest
    )
    step("merge.green")
    return True


def _message(bead: Bead, run: Run) -> str:
    """A commit message without a word of anybody else's."""
    wanted = f"Wanted: {bead.wanted_id}\n" if bead.wanted_id else ""
    return f"Merge {bead.id}\n\nBead: {bead.id}\nRun: {run.id}\n{wanted}"


def _gates(town: Town, bead: Bead, rig: Rig, repo: Repo, target: str) -> tuple[list[Gate], str]:
    """Run every gate until one is red; their results, and why the merge may not land.

    Each gate has a fresh clone, so that none prepares the ground for the next.
    """
    gates: list[Gate] = []
    for argv in rig.gates:
        gate, why = _gate(town, bead, rig, repo, target, argv)
        gates.append(gate)
        if why:
            return gates, why
    return gates, ""


def _gate(town: Town, bead: Bead, rig: Rig, repo: Repo, target: str, argv: list[str]) -> tuple[Gate, str]:
    name = f"gate-{secrets.token_hex(5)}"
    clone = Clone(town.run_folder(name), town.box)
    try:
        clone.prepare(repo, "gate", target, {})
        command = clone.command(argv, "gate", {"GT_BEAD": bead.id}, rig.binds)
        done = sandbox.run(command, clone.folder / "log", bead.budget_seconds)
        code, why = done.exit, ""
        if done.why or done.exit:
            ended = f"not done in {budget.words(bead.budget_seconds)}" if done.why else f"exit code {done.exit}"
            code = code or 1
            why = f"red gate on the merged result: {' '.join(argv)} ({ended})\n{agent.tail(clone.folder / 'log')}"
        elif changed := _changed(clone, target):
            code, why = TREE_CHANGED, f"the gate {' '.join(argv)} changed what it tested:\n{changed}"
        log = (clone.folder / "log").read_bytes()
    finally:
        shutil.rmtree(clone.folder, ignore_errors=True)
    digest = hashlib.sha256(log).hexdigest()
    (town.logs / f"{digest}.log").write_bytes(log)
    return Gate(argv, code, digest, town.box.level), why


def _changed(clone: Clone, target: str) -> str:
    try:
        found = clone.inspect(target)
    except Refused as error:
        return error.message
    return "\n".join(found.dirty[:20]) if found.dirty else "" if found.head == target else "HEAD has moved"


def _reject(town: Town, bead: Bead, rig: Rig, merge: Merge, why: str, gates: list[Gate] | None = None) -> None:
    """An attempt is spent; the bead goes back with the reason."""
    attempts = bead.attempts + 1
    with town.ledger.tx():
        town.ledger.write_merge(merge, MergeState.REJECTED, why=why, gates=gates or [])
        to = queue.after_failure(attempts, rig.max_attempts)
        town.ledger.move_bead(bead.id, to, attempts=attempts, reason=why, approved_head=None)


def _land(town: Town, repo: Repo, merge: Merge) -> None:
    """Write down the target, move main from exactly its base, settle from git."""
    assert merge.base is not None
    assert merge.target is not None
    with town.ledger.tx():
        town.ledger.write_merge(merge, MergeState.LANDING)
        town.ledger.move_bead(merge.bead, Phase.LANDING)
    step("merge.landing")
    try:
        repo.push(merge.base, merge.target)
        step("merge.pushed")
    finally:
        settle(town, town.ledger.load_merge(merge.bead))
