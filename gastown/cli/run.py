"""`gt up` and `gt down`."""

from __future__ import annotations

import time

import click

from gastown import git
from gastown.cli.common import as_json, open_town, show_json, who
from gastown.cli.views import bead_json
from gastown.errors import Conflict, Unreachable
from gastown.supervisor import DEFAULT_CAP, Supervisor
from gastown.text import show

DOWN_SECONDS = 60.0


@click.command()
@click.option("--once", is_flag=True, help="Work until only a person can do more, then end.")
@click.option("--agents", "cap", default=DEFAULT_CAP, show_default=True, type=click.IntRange(1, 64), help="At once.")
@as_json
@click.pass_obj
def up(named: str | None, once: bool, cap: int, as_json: bool) -> None:
    """Run the town: start agents, test and land what they made.

    There is one supervisor in a town.  Killing it loses nothing: agents go on
    within their budgets, and the next `gt up` goes on from there.
    """
    git.check_version()
    with open_town(named) as town:
        Supervisor(town, cap, lambda line: click.echo(show(line), err=True)).up(once)
        if as_json:
            show_json({"beads": [bead_json(town, bead) for bead in town.ledger.beads()]})


@click.command()
@as_json
@click.pass_obj
def down(named: str | None, as_json: bool) -> None:
    """Stop the supervisor and every live agent; beads go back and keep their attempts."""
    with open_town(named) as town:
        town.ledger.ask("down", who(), {})
        until = time.monotonic() + DOWN_SECONDS
        while True:
            try:
                Supervisor(town).down()
                break
            except Conflict as error:
                if time.monotonic() > until:
                    raise Unreachable("the supervisor does not answer", hint="look at gt agents") from error
                time.sleep(0.1)
    if as_json:
        show_json({"down": True})
    else:
        click.echo("The town is down.")
