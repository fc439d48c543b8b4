"""`wl doctor, server, version, completion`."""

from __future__ import annotations

import click

from wasteland.cli.output import Out, field, verb
from wasteland.errors import Unauthenticated, Usage
from wasteland.text import org_db, show

MARKS = {"ok": "✓", "warning": "⚠", "failure": "✖"}


@click.group("server")
def server_command() -> None:
    """Look at or stop the clone's database server; nobody needs to."""


@server_command.command("status")
@verb
def server_status(out: Out) -> None:
    """Whether a server runs, where it listens and when it stops."""
    found = out.node.db.server.status()
    state = "running" if found["running"] else "not running; the next command starts one"
    lines = [f"  Server: {state}"]
    lines += [
        field(label, found[key])
        for key, label in (
            ("server_pid", "Process"),
            ("socket", "Socket"),
            ("idle_seconds", "Stops after idle seconds"),
            ("clone", "Clone"),
            ("log", "Last words"),
        )
        if found[key] and (found["running"] or key != "server_pid")
    ]
    out.result({"schema_version": 1, **found}, lines)


@server_command.command("stop")
@verb
def server_stop(out: Out) -> None:
    """Stop the server now."""
    stopped = out.node.db.server.stop()
    out.result({"schema_version": 1, "stopped": stopped}, ["✓ Stopped" if stopped else "No server was running."])


@click.command("version")
@verb
def version_command(out: Out) -> None:
    """Print the version of this program."""
    from wasteland import __version__

    out.result({"schema_version": 1, "version": __version__}, [f"wl {__version__}"])


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@verb
def completion_command(out: Out, shell: str) -> None:
    """Print the completion script for SHELL; source it from your shell's start file."""
    from click.shell_completion import get_completion_class

    from wasteland.cli import wl

    kind = get_completion_class(shell)
    script = kind(wl, {}, "wl", "_WL_COMPLETE").source() if kind else ""
    out.result({"schema_version": 1, "shell": shell, "script": script}, [script])


@click.command("doctor")
@click.option("--fix", is_flag=True, help="Mend what can be mended; nothing is lost.")
@click.option("--check", is_flag=True, help="Exit with 1 on any failure.")
@click.option("--probe", is_flag=True, help="Ask a hub how it really behaves; reads only, unless --yes is given.")
@click.option("--hub", metavar="URL", help="With --probe: which hub; DoltHub, unless WL_HUB names another.")
@click.option("--database", metavar="OWNER/DB", help="With --probe: about which database.")
@click.option("--yes", is_flag=True, help="With --probe: make a branch and a pull request in --database, and undo it.")
@verb
def doctor_command(
    out: Out, fix: bool, check: bool, probe: bool, hub: str | None, database: str | None, yes: bool
) -> None:
    """Check this installation, its configuration, clone, key, remotes and hub."""
    from wasteland.care import doctor

    if probe:
        if fix or check:
            raise Usage("--probe goes with neither --fix nor --check")
        _probe(out, hub, database, yes)
        return
    if hub or database or yes:
        raise Usage("--hub, --database and --yes go with --probe")
    found = doctor.examine(out.paths, out.wasteland, fix=fix)
    lines = []
    for one in found:
        lines.append(f"  {MARKS[one.state]} {show(one.what)}: {show(one.detail)}")
        if one.hint:
            lines.append(f"      {show(one.hint)}")
    bad = any(one.state == "failure" for one in found)
    out.result({"schema_version": 1, "healthy": not bad, "checks": [vars(one) for one in found]}, lines)
    if check and bad:
        raise click.exceptions.Exit(1)


def _probe(out: Out, hub: str | None, database: str | None, write: bool) -> None:
    """Ask a hub how it behaves, and print its answers."""
    from wasteland.care import probe
    from wasteland.dolt import binary
    from wasteland.hub import credentials
    from wasteland.hub.rest.client import Wire
    from wasteland.hub.site import DOLTHUB, base_url, cache_folder, discover
    from wasteland.local import config

    base = base_url(hub or config.setting("WL_HUB") or DOLTHUB)
    if database is None and (write or base != DOLTHUB):
        raise Usage("name the database with --database OWNER/DB", hint="one of your own, where --yes is given")
    org, db = org_db(database or probe.SAMPLE)
    token = credentials.find_token(base, out.paths)
    if token is None and write:
        raise Unauthenticated(f"there is no token for {base}", hint=f"wl login --hub {base}")
    delete = None
    if write:
        remote = discover(base, cache_folder(out.paths)).remote
        delete = probe.by_push(f"{remote}/{org}/{db}", binary.dolt_home(out.paths.data))
    wire = Wire(base, token.value if token else None)
    try:
        found = probe.examine(wire, org, db, delete)
    finally:
        wire.close()
    lines = [f"{base}, with {'a token' if token else 'no token'}:"]
    for one in found:
        lines += [f"  {show(one.question)}: {show(one.answer)}"] + (
            [f"      {show(one.evidence)}"] if one.evidence else []
        )
    out.result(
        {"schema_version": 1, "hub": base, "token": token is not None, "answers": [one.to_json() for one in found]},
        lines,
    )
