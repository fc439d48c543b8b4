"""`gt sling`, `gt approve`, `gt cancel`: requests that the supervisor answers."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import click

from gastown import budget, federation, requests
from gastown.cli.common import as_json, open_town, show_json, who
from gastown.errors import Refused, Usage
from gastown.models import Hold, Phase
from gastown.text import show
from gastown.town import Town

MOST_TEXT = 64 * 1024


def _ask(town: Town, verb: str, args: dict[str, object], as_json: bool, words: str) -> None:
    number = town.ledger.ask(requests.check_verb(verb), who(), args)
    running = town.supervised
    if as_json:
        shown = {key: value for key, value in args.items() if key != "order"}
        show_json({"request": number, "verb": verb, "args": shown, "supervised": running})
        return
    click.echo(words)
    if not running:
        click.echo("  No supervisor is running; next: gt up --once")


@click.command()
@click.argument("target", required=False)
@click.option("--rig", help="The rig to work on; needed where there is more than one.")
@click.option("--budget", "budget_text", metavar="TIME", help="Wall clock per run: 90s, 10m, 1h; else the rig's.")
@click.option("--title", help="Make a bead of your own instead of TARGET.")
@click.option("--text", help="What that bead asks for.")
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The same, from a file.")
@click.option("--hold", is_flag=True, help="Wait for `gt approve` before it lands.")
@click.option("--i-accept-no-sandbox", "no_sandbox", is_flag=True, help="One run without a box; local beads only.")
@as_json
@click.pass_obj
def sling(
    named: str | None,
    target: str | None,
    rig: str | None,
    budget_text: str | None,
    title: str | None,
    text: str | None,
    file: Path | None,
    hold: bool,
    no_sandbox: bool,
    as_json: bool,
) -> None:
    """Have TARGET worked on: a claimed wanted id, or a bead that came back.

    Work from the board always runs in a box and waits for `gt approve`.
    """
    if (target is None) == (title is None):
        raise Usage("say what to sling: a wanted id, a bead, or --title", hint='gt sling --title "Fix the clock"')
    seconds = None if budget_text is None else budget.parse(budget_text)
    args: dict[str, Any] = {"budget_seconds": seconds, "no_sandbox": no_sandbox}
    with open_town(named) as town:
        known = town.ledger.bead_of_wanted(target) if target else None
        if target is None:
            said = _text(text, file)
            args |= {"bead": _new_id(), "rig": _rig(town, rig), "title": title, "description": said, "hold": hold}
        elif known is None and federation.is_wanted(target):
            if no_sandbox:
                raise Refused("work from the board never runs without a box", about=target)
            order = federation.next_order(target)
            found = federation.rig_for(order, town.ledger.rigs(), rig)
            args |= {"bead": _new_id(), "rig": found.name, "order": order}
        else:
            bead = known or requests.checked_bead(town, target)
            _ask(town, "again", args | {"bead": bead.id}, as_json, f"{bead.id} is to be worked on again.")
            return
        _ask(town, "sling", args, as_json, f"{args['bead']} is to be worked on in {args['rig']}.")


def _new_id() -> str:
    return f"gt-{secrets.token_hex(3)}"


def _text(text: str | None, file: Path | None) -> str:
    if text is not None and file is not None:
        raise Usage("say --text or --file, not both")
    try:
        said = file.read_text(encoding="utf-8") if file else text or ""
    except UnicodeDecodeError as error:
        raise Usage("the file is not UTF-8 text", about=str(file)) from error
    if len(said) > MOST_TEXT:
        raise Usage(f"the text is longer than {MOST_TEXT} characters")
    return said


def _rig(town: Town, name: str | None) -> str:
    if name is not None:
        return town.ledger.load_rig(name).name
    rigs = town.ledger.rigs()
    if len(rigs) != 1:
        raise Usage("say which rig", hint="--rig NAME; gt rig list shows them" if rigs else "gt rig add NAME PATH")
    return rigs[0].name


@click.command()
@click.argument("bead_id", metavar="BEAD")
@click.option("--head", metavar="SHA", help="The commit that you looked at, as `gt status BEAD` shows it.")
@as_json
@click.pass_obj
def approve(named: str | None, bead_id: str, head: str | None, as_json: bool) -> None:
    """Let BEAD land: exactly the commit that it is held at, and no other."""
    with open_town(named) as town:
        bead = requests.checked_bead(town, bead_id)
        if bead.phase is not Phase.HELD or bead.held_for is not Hold.APPROVAL:
            raise Refused(f"{bead.id} is {bead.phase} and waits for no approval", hint="gt status", about=bead.id)
        at = town.ledger.load_merge(bead.id).head
        if head is not None and (len(head) < 7 or not at.startswith(head.lower())):
            raise Refused(
                f"{bead.id} is at {at}, not at {show(head)}", hint=f"gt status {bead.id} --diff", about=bead.id
            )
        _ask(town, "approve", {"bead": bead.id, "head": at}, as_json, f"{bead.id} is approved at {at}.")


@click.command()
@click.argument("bead_id", metavar="BEAD")
@click.option("--reason", default="", help="Why, for the log.")
@as_json
@click.pass_obj
def cancel(named: str | None, bead_id: str, reason: str, as_json: bool) -> None:
    """End BEAD for good; its agent is stopped, nothing of it lands."""
    with open_town(named) as town:
        bead = requests.checked_bead(town, bead_id)
        if bead.phase in (Phase.LANDED, Phase.LANDING, Phase.CANCELLED):
            raise Refused(f"{bead.id} is {bead.phase}", about=bead.id)
        _ask(town, "cancel", {"bead": bead.id, "reason": reason}, as_json, f"{bead.id} is to be cancelled.")
