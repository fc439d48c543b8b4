"""`gt install`, `gt rig add`, `gt rig list`: what a town needs before it works."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path

import click

from gastown import budget, git, queue
from gastown import town as towns
from gastown.cli.common import as_json, open_town, show_json
from gastown.errors import Usage
from gastown.models import Rig
from gastown.text import masked, show, without_secrets


@click.command()
@click.argument("path", type=click.Path(path_type=Path), default=".")
@as_json
def install(path: Path, as_json: bool) -> None:
    """Make a town in PATH."""
    git.check_version()
    root = towns.install(path)
    with towns.Town(root) as town:
        box = town.box
        runs = str(town.runs)
    if as_json:
        show_json({"town": str(root), "sandbox": {"level": box.level, "reasons": list(box.reasons)}, "runs": runs})
        return
    click.echo(f"Town made in {show(root)}; sandbox {box.level}.")
    for reason in box.reasons:
        click.echo(f"  {show(reason)}")
    if Path(runs).parent != root:
        click.echo(f"  Runs go to {show(runs)}: the box's user cannot reach this folder.")


@click.group()
def rig() -> None:
    """The repositories that this town works on."""


def _argv(text: str, what: str) -> list[str]:
    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise Usage(f"the {what} is not a command line: {error}") from error
    if not argv:
        raise Usage(f"the {what} is empty")
    return argv


@rig.command("add")
@click.argument("name")
@click.argument("repository")
@click.option("--agent", required=True, metavar="CMD", help="What does the work; {task} becomes the task file.")
@click.option("--gate", "gates", required=True, multiple=True, metavar="CMD", help="A check of the merged result.")
@click.option("--budget", "budget_text", required=True, metavar="TIME", help="Wall clock per run: 90s, 10m, 1h.")
@click.option("--branch", default="main", show_default=True, help="The branch that work lands on.")
@click.option("--bind", "binds", multiple=True, metavar="PATH", help="A folder that boxes may read.")
@click.option("--allow", multiple=True, type=click.Choice(queue.KINDS), help="Surprising paths that may land.")
@click.option("--attempts", default=3, show_default=True, type=click.IntRange(1, 20), help="Until a bead is stuck.")
@click.option(
    "--public", metavar="WORDS", help="What evidence calls the repository; else its URL, or its folder's name."
)
@as_json
@click.pass_obj
def add(
    named: str | None,
    name: str,
    repository: str,
    agent: str,
    gates: tuple[str, ...],
    budget_text: str,
    branch: str,
    binds: tuple[str, ...],
    allow: tuple[str, ...],
    attempts: int,
    public: str | None,
    as_json: bool,
) -> None:
    """Add REPOSITORY, a path or an https URL, as the rig NAME.

    A user and password in the URL are kept for git alone, and told to nobody.
    Agents and gates run in a box that shows /usr and the bound folders only.
    Commands are run as they are, without a shell.
    """
    check_name(name)
    git.check_version()
    origin, secret = git.apart(git.check_origin(repository))
    with open_town(named) as town:
        made = Rig(
            name=name,
            origin=origin,
            public=without_secrets(public or git.called(origin)),
            branch=check_branch(branch),
            agent=_argv(agent, "agent"),
            gates=[_argv(gate, "gate") for gate in gates],
            binds=[towns.check_bind(town, bind) for bind in binds],
            allow=list(allow),
            budget_seconds=budget.parse(budget_text),
            max_attempts=attempts,
            added_at=town.ledger.now(),
        )
        git.check_rig(origin, branch, secret)
        town.ledger.add_rig(made)
        repo = town.repo(made)
        repo.reach_by(secret)
        repo.fetch()
    if as_json:
        show_json({"rig": asdict(made)})
        return
    click.echo(f"Rig {name}: {show(origin)}, {len(gates)} gate(s), {budget.words(made.budget_seconds)} a run.")


def check_name(name: str) -> str:
    """`name` if a rig may be called so; Usage."""
    if not (
        name.isascii() and name.replace("-", "").replace("_", "").isalnum() and name[0].isalnum() and len(name) < 65
    ):
        raise Usage("a rig's name is 1 to 64 ASCII letters, digits, '-' or '_', starting with a letter or digit")
    return name


def check_branch(branch: str) -> str:
    """`branch` if it is a plain branch name; Usage."""
    plain = branch.replace("-", "").replace("_", "").replace("/", "").replace(".", "")
    if not (plain.isascii() and plain.isalnum()) or ".." in branch or branch[0] in "-/." or branch[-1] in "/.":
        raise Usage("that is not the name of a branch", about=branch)
    return branch


@rig.command("list")
@as_json
@click.pass_obj
def list_(named: str | None, as_json: bool) -> None:
    """List the rigs of this town."""
    with open_town(named) as town:
        rigs = [replace(one, origin=masked(one.origin), public=masked(one.public)) for one in town.ledger.rigs()]
    if as_json:
        show_json({"rigs": [asdict(rig) for rig in rigs]})
        return
    for found in rigs:
        click.echo(f"{found.name}  {show(found.origin)}  {budget.words(found.budget_seconds)} a run")
        for gate in found.gates:
            click.echo(f"  gate: {show(shlex.join(gate))}")
