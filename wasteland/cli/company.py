"""`wl fork, valve`: a company's own wasteland, and what passes between it and its parent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from wasteland.cli.output import Out, field, listed, verb
from wasteland.errors import Refused
from wasteland.text import show

if TYPE_CHECKING:
    from wasteland.member.send_up import Checked
    from wasteland.member.take_in import Taken

SHOWN = 20  # rows of a list


@click.command("fork")
@click.argument("upstream", metavar="UPSTREAM")
@click.option("--as", "ours", metavar="ORG/DB", required=True, help="The name of your own wasteland.")
@click.option("--remote-base", metavar="FOLDER", help="A hub in a folder.")
@click.option("--remote", metavar="URL", help="Any Dolt remote, also in a git repository; has no pull requests.")
@click.option("--hub", metavar="URL", help="A hub of your own.")
@click.option("--handle", help="This rig's name there.")
@click.option("--display-name", help="How you are shown.")
@click.option("--email", help="Published to everybody there; leave it out unless you want that.")
@click.option("--private", is_flag=True, help="Let only members see it, where the hub can.")
@click.option("--signed", is_flag=True, help="Sign Dolt's commits with GPG too.")
@verb
def fork_command(out: Out, upstream: str, **given: Any) -> None:
    """Make your own wasteland ORG/DB out of UPSTREAM; its roles are yours, and a valve stands between the two."""
    from wasteland.member import fork, send_up

    out.say(f"Forking wasteland {upstream}...", indent="")
    node = out.adopt(fork.fork(out.paths, upstream, say=out.say, **given))
    config = node.config
    rules = send_up.rules_path(node.paths, config.upstream)
    found = {
        "schema_version": 1, "upstream": config.upstream, "handle": config.rig_handle, "local_dir": config.local_dir,
        "wasteland_id": config.node["wasteland_id"], "parent": upstream, "remote": config.upstream_url,
        "mode": config.mode, "rules": str(rules),
    }  # fmt: skip
    out.result(found, [
        f"✓ Forked {show(upstream)} as {config.upstream}",
        field("Handle", config.rig_handle), field("Local", config.local_dir), field("Remote", config.upstream_url),
        field("Mode", config.mode), field("Rules", rules), "",
        f"  Next: wl valve in --wasteland {config.upstream}  — take in what is new in {show(upstream)}",
    ])  # fmt: skip


@click.group("valve")
def valve_command() -> None:
    """Say and see what passes between your wasteland and the one it was forked from."""


@valve_command.command("init")
@verb
def valve_init(out: Out) -> None:
    """Write a file of rules, with a comment for each."""
    from wasteland.member import send_up

    path = send_up.write_rules(out.paths, out.node.config.upstream)
    out.result({"schema_version": 1, "rules": str(path)}, [f"✓ Wrote {path}"])


@valve_command.command("show")
@verb
def valve_show(out: Out) -> None:
    """Show the parent and the rules."""
    from wasteland.member import send_up

    node = out.node
    parent = send_up.need_parent(node)
    said = send_up.rules(node.paths, node.config.upstream)
    path = send_up.rules_path(node.paths, node.config.upstream)
    ways = {
        name: {
            "tables": sorted(way.tables), "projects": sorted(way.projects), "deny_projects": sorted(way.deny_projects),
            "tags": sorted(way.tags), "deny_tags": sorted(way.deny_tags),
            "columns": {table: sorted(columns) for table, columns in way.columns.items()},
            "blank": {table: sorted(columns) for table, columns in way.blank.items()},
        }
        for name, way in (("in", said.inward), ("up", said.upward))
    }  # fmt: skip
    found = {
        "schema_version": 1, "wasteland": node.config.upstream, "parent": parent.upstream,
        "parent_wasteland": parent.wasteland, "rules": str(path) if path.exists() else None, **ways,
    }  # fmt: skip
    where = path if path.exists() else "none; nothing goes up (wl valve init writes a file)"
    lines = [field("Parent", f"{parent.upstream}  {parent.wasteland}"), field("Rules", where)]
    for name, way in ways.items():
        told = [f"{key} {listed(value)}" for key, value in way.items() if isinstance(value, list) and value]
        lines.append(field(name.capitalize(), "; ".join(told) if way["projects"] else "nothing: no project is named"))
    out.result(found, lines)


@valve_command.command("check")
@click.argument("items", metavar="ITEM...", nargs=-1, required=True)
@verb
def valve_check(out: Out, items: tuple[str, ...]) -> None:
    """Show what would go up of items, what would stay, and what leaks; exit 6 where one may not go."""
    from wasteland.member import send_up

    send_up.need_parent(out.node)
    found = send_up.check(out.node, items)
    clean = all(one.clean for one in found)
    lines = [line for one in found for line in _checked(one)]
    out.result({"schema_version": 1, "clean": clean, "items": [one.to_json() for one in found]}, lines)
    if not clean:
        out.finish()
        sys.stdout.flush()
        raise click.exceptions.Exit(Refused.exit_code)


def _checked(one: Checked) -> list[str]:
    lines = [f"{show(one.id)}: {'may go up' if one.clean else 'stays here'}"]
    if one.stopped:
        lines.append(field("Stopped", one.stopped))
    lines += [field(name, value) for name, value in one.passes.items() if name != "id"]
    if one.blanked and not one.stopped:
        lines.append(field("Not sent", ", ".join(one.blanked)))
    return lines + [field("Leak", leak) for leak in one.leaks]


@valve_command.command("in")
@click.option("--dry-run", is_flag=True, help="Only show what would come in.")
@verb
def valve_in(out: Out, dry_run: bool) -> None:
    """Bring what the rules let in from the parent to your main; what you changed stays as it is."""
    from wasteland.member import take_in

    found = take_in.take_in(out.node, dry_run=dry_run)
    out.result(found.to_json() | {"dry_run": dry_run}, _taken(found, dry_run=dry_run))


def _taken(found: Taken, *, dry_run: bool) -> list[str]:
    if not (found.new or found.changed or found.signed):
        lines = ["Nothing new comes in."]
    else:
        head = "Would come in" if dry_run else "✓ Came in"
        lines = [f"{head}: {len(found.new)} new, {len(found.changed)} changed, {found.signed} signatures and keys"]
    for mark, rows in (("+", found.new), ("~", found.changed)):
        lines += [f"  {mark} {table} {show(key)}" for table, key in rows[:SHOWN]]
        lines += [f"  {mark} and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    lines += [f"  = {table} {show(key)} stays: {show(why)}" for table, key, why in found.kept[:SHOWN]]
    return lines + ([f"  = and {len(found.kept) - SHOWN} more stay"] if len(found.kept) > SHOWN else [])


@valve_command.command("up")
@click.argument("items", metavar="ITEM...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only check; nothing is sent.")
@verb
def valve_up(out: Out, items: tuple[str, ...], dry_run: bool) -> None:
    """Offer items to the parent as pull requests of yours; nothing is sent where one of them may not go."""
    from wasteland.member import send_up

    found = send_up.up(out.node, items, dry_run=dry_run)
    lines = []
    for one in found:
        if dry_run:
            lines.append(f"{one.id}: may go up to {show(one.parent)}; nothing was sent")
            continue
        did = {"post": "went up", "update": "was brought up to date"}.get(one.done, "is as it was")
        lines.append(f"✓ {one.id}: {did} in {show(one.parent)}")
        if one.pull:
            lines.append(field("PR", f"#{one.pull.number} {one.pull.url}"))
        elif one.done != "nothing":
            lines.append(field("PR", "none could be opened; the branch is on your fork"))
    out.result({"schema_version": 1, "dry_run": dry_run, "items": [one.to_json() for one in found]}, lines)
