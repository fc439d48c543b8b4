"""What clients may ask of the supervisor; each verb is done in the transaction of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gastown import agent, budget, federation
from gastown.errors import NotFound, Refused, TownError, Usage
from gastown.models import Bead, Hold, MergeState, Phase, Request, RunState, Sandbox
from gastown.steps import step
from gastown.town import Town

FRESH = (Phase.READY, Phase.STUCK, Phase.HELD)


def answer_all(town: Town) -> tuple[bool, bool]:
    """Answer every new request: was there any, and was one of them `down`."""
    asked = town.ledger.requests()
    for request in asked:
        answer(town, request)
    return bool(asked), any(request.verb == "down" for request in asked)


def answer(town: Town, request: Request) -> None:
    """Do a request and answer it, both or neither; a refusal is an answer too."""
    try:
        with town.ledger.tx():
            said = VERBS[request.verb](town, request.args)
            town.ledger.answer(request, "done", said)
    except KeyError as error:
        town.ledger.answer(request, "refused", f"the request lacks {error}")
    except TownError as error:
        town.ledger.answer(request, "refused", error.message)
    step("request.answered")


def _sling(town: Town, args: dict[str, Any]) -> str:
    rig = town.ledger.load_rig(str(args["rig"]))
    seconds = budget.require(args.get("budget_seconds") or rig.budget_seconds)
    order = args.get("order")
    if order is not None:
        bead = federation.bead_for(order, str(args["bead"]), rig, seconds, town.ledger.now())
        if args.get("no_sandbox"):
            raise Refused("work from the board never runs without a box", about=bead.wanted_id)
    else:
        bead = _local(town, args, seconds)
    town.ledger.add_bead(bead)
    return f"{bead.id} is ready"


def _local(town: Town, args: dict[str, Any], seconds: int) -> Bead:
    now = town.ledger.now()
    return Bead(
        id=str(args["bead"]),
        rig=str(args["rig"]),
        title=str(args["title"]),
        description=str(args.get("description", "")),
        author=str(args.get("author", "this town")),
        phase=Phase.READY,
        reason="",
        attempts=0,
        losses=0,
        budget_seconds=seconds,
        sandbox=Sandbox.ACCEPTED if args.get("no_sandbox") else Sandbox.BOXED,
        hold=bool(args.get("hold")),
        held_for=Hold.NONE,
        approved_head=None,
        wanted_id=None,
        reported_at=None,
        created_at=now,
        updated_at=now,
    )


def _again(town: Town, args: dict[str, Any]) -> str:
    """Give a bead that came back another chance, with a new budget if one is named."""
    bead = town.ledger.load_bead(str(args["bead"]))
    if bead.phase not in FRESH or bead.held_for is Hold.APPROVAL:
        raise Refused(f"{bead.id} is {bead.phase}; only a ready, stuck or over-budget bead can be slung again")
    if args.get("no_sandbox") and bead.sandbox is Sandbox.REQUIRED:
        raise Refused("work from the board never runs without a box", about=bead.wanted_id)
    new: dict[str, object] = {"attempts": 0, "losses": 0, "held_for": Hold.NONE}
    if args.get("budget_seconds"):
        new["budget_seconds"] = budget.require(args["budget_seconds"])
    if args.get("no_sandbox"):
        new["sandbox"] = Sandbox.ACCEPTED
    if bead.phase is Phase.READY:
        town.ledger.note_bead(bead.id, **new)
    else:
        town.ledger.move_bead(bead.id, Phase.READY, **new)
    return f"{bead.id} is ready"


def _approve(town: Town, args: dict[str, Any]) -> str:
    """A person's word for one commit: it counts for no other."""
    bead = town.ledger.load_bead(str(args["bead"]))
    if bead.phase is not Phase.HELD or bead.held_for is not Hold.APPROVAL:
        raise Refused(f"{bead.id} is {bead.phase} and waits for no approval")
    merge = town.ledger.load_merge(bead.id)
    if args["head"] != merge.head:
        raise Refused(f"{bead.id} is at {merge.head[:12]} now, which is not what was approved")
    town.ledger.move_bead(bead.id, Phase.REVIEW, held_for=Hold.NONE, approved_head=merge.head, reason="approved")
    return f"{bead.id} is approved at {merge.head}"


def _cancel(town: Town, args: dict[str, Any]) -> str:
    """End a bead for good; its run is killed, its commits stay in the town's repository."""
    bead = town.ledger.load_bead(str(args["bead"]))
    reason = str(args.get("reason") or "cancelled")
    town.ledger.move_bead(bead.id, Phase.CANCELLED, reason=reason, held_for=Hold.NONE)
    for run in town.ledger.runs(bead.id):
        if run.live:
            who = agent.claimed(town.run_folder(run.id))
            if who is not None:
                agent.end(who)
            town.ledger.move_run(run, RunState.KILLED, why="cancelled")
    for merge in town.ledger.merges(bead.id):
        if merge.state is MergeState.QUEUED:
            town.ledger.write_merge(merge, MergeState.REJECTED, why=reason)
    return f"{bead.id} is cancelled"


def _down(town: Town, args: dict[str, Any]) -> str:
    return "the town goes down"


VERBS: dict[str, Callable[[Town, dict[str, Any]], str]] = {
    "sling": _sling,
    "again": _again,
    "approve": _approve,
    "cancel": _cancel,
    "down": _down,
}


def check_verb(verb: str) -> str:
    """`verb` if a supervisor answers it; Usage."""
    if verb not in VERBS:
        raise Usage(f"there is no request {verb}", about=verb)
    return verb


def checked_bead(town: Town, bead_id: str) -> Bead:
    """The bead that a request names, before it is asked; NotFound, also while its own request waits."""
    if any(request.args.get("bead") == bead_id and request.verb == "sling" for request in town.ledger.requests()):
        raise NotFound(f"{bead_id} is not taken in yet", hint="gt up --once", about=bead_id)
    return town.ledger.load_bead(bead_id)
