"""`gt status`, `gt agents`, `gt log`: what is, what runs, what was."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from typing import Any

import click

from gastown import budget, polecat, queue
from gastown.cli.common import as_json, open_town, show_json
from gastown.models import Bead, Run
from gastown.text import show, show_lines
from gastown.town import Town


def bead_json(town: Town, bead: Bead) -> dict[str, Any]:
    """A bead as `--json` prints it: its columns, time used, head, merge, gates and the next step."""
    runs = town.ledger.runs(bead.id)
    merges = town.ledger.merges(bead.id)
    merge = asdict(merges[-1]) if merges else None
    used = sum(round(polecat.elapsed(town, run)) if run.live else run.wall_seconds for run in runs)
    return {**asdict(bead), "used_seconds": used, "runs": len(runs), "merge": merge, "next": queue.next_step(bead)}


@click.command()
@click.argument("bead_id", metavar="BEAD", required=False)
@click.option("--diff", is_flag=True, help="Show what BEAD would change on main.")
@as_json
@click.pass_obj
def status(named: str | None, bead_id: str | None, diff: bool, as_json: bool) -> None:
    """Show the town, or all about one BEAD."""
    with open_town(named) as town:
        if bead_id is not None:
            _one(town, town.ledger.load_bead(bead_id), diff, as_json)
            return
        beads = [bead_json(town, bead) for bead in town.ledger.beads()]
        level = town.ledger.meta("sandbox_level") or "not probed"
        reasons = town.ledger.meta("sandbox_reasons")
        waiting = len(town.ledger.requests())
        running = town.supervised
        runs = str(town.runs)
        rigs = [rig.name for rig in town.ledger.rigs()]
    if as_json:
        box = {"level": level, "reasons": reasons, "runs": runs}
        base = {"town": str(town.root), "supervised": running, "sandbox": box, "rigs": rigs}
        show_json({**base, "requests": waiting, "beads": beads})
        return
    click.echo(
        f"Town {show(town.root)}: {'up' if running else 'down'}, sandbox {level}, rigs: {', '.join(rigs) or 'none'}"
    )
    if reasons:
        click.echo(f"  {show(reasons)}")
    if runs != str(town.root / "runs"):
        click.echo(f"  Runs are in {show(runs)}, where the box's user can reach them.")
    if waiting:
        click.echo(f"  {waiting} request(s) wait for gt up")
    for bead in beads:
        _line(bead)


def _line(bead: dict[str, Any]) -> None:
    used = f"{budget.words(bead['used_seconds'])} used in {bead['runs']} run(s) of at most "
    click.echo(f"{bead['id']}  {bead['phase']:<9}  {show(bead['title'])}")
    click.echo(
        f"    {used}{budget.words(bead['budget_seconds'])}" + (f"; {bead['wanted_id']}" if bead["wanted_id"] else "")
    )
    if bead["reason"]:
        click.echo(f"    {show(bead['reason'].partition(chr(10))[0])}")
    if bead["next"]:
        click.echo(f"    next: {bead['next']}")


def _one(town: Town, bead: Bead, diff: bool, as_json: bool) -> None:
    found = bead_json(town, bead)
    merge = found["merge"]
    patch = ""
    if diff and merge and merge["target"]:
        repo = town.repo(town.ledger.load_rig(bead.rig))
        patch = repo.patch(merge["base"], merge["target"]).decode("utf-8", "replace")
    if as_json:
        show_json({"bead": found, "runs": [asdict(run) for run in town.ledger.runs(bead.id)], "diff": patch or None})
        return
    _line(found)
    click.echo(f"  from {show(bead.author)}, attempt {bead.attempts + 1}, sandbox {bead.sandbox}")
    click.echo(show_lines(bead.description, "  | "))
    if bead.reason:
        click.echo(show_lines(bead.reason, "  ! "))
    if merge:
        click.echo(f"  head {merge['head']}" + (f" merged as {merge['target']}" if merge["target"] else ""))
        for gate in merge["gates"]:
            click.echo(f"  gate {show(shlex.join(gate['argv']))}: exit {gate['exit']} at {gate['level']}")
    if patch:
        click.echo(show_lines(patch.rstrip("\n"), "  "))


@click.command()
@as_json
@click.pass_obj
def agents(named: str | None, as_json: bool) -> None:
    """Show the agents that are running."""
    with open_town(named) as town:
        live = [_agent(town, run) for run in town.ledger.runs() if run.live]
    if as_json:
        show_json({"agents": live})
        return
    for run in live:
        times = f"{budget.words(run['elapsed_seconds'])} of {budget.words(run['budget_seconds'])}"
        click.echo(f"{run['run']}  {run['bead']}  {run['state']}  pid {run['pid'] or '-'}  {times}  {run['level']}")
    if not live:
        click.echo("No agent is running.")


def _agent(town: Town, run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "bead": run.bead,
        "state": run.state,
        "pid": run.pid,
        "level": run.level,
        "elapsed_seconds": round(polecat.elapsed(town, run)),
        "budget_seconds": run.budget_seconds,
    }


@click.command()
@click.argument("ref", required=False)
@click.option("--verify", is_flag=True, help="Check that no line was changed or taken out.")
@click.option("-n", "last", default=50, show_default=True, type=click.IntRange(1), help="The last so many.")
@as_json
@click.pass_obj
def log(named: str | None, ref: str | None, verify: bool, last: int, as_json: bool) -> None:
    """Show the audit log, or what it says about REF (a bead, a run, a rig)."""
    with open_town(named) as town:
        if verify:
            count = town.ledger.verify()
            head = town.ledger.events(last=1)[-1].sha256
            if as_json:
                show_json({"verified": True, "events": count, "head": head})
            else:
                click.echo(f"{count} events, each follows from the one before; head {head}")
            return
        events = town.ledger.events(last, ref)
    if as_json:
        show_json({"events": [{**asdict(event), "body": json.loads(event.body)} for event in events]})
        return
    for event in events:
        click.echo(f"{event.seq:>5}  {event.at}  {event.kind:<16}  {show(event.ref)}  {show(event.body)}")
