"""`wl doctor, server, version, completion`."""

from __future__ import annotations

import click

from wasteland.cli.output import Out, field, verb
from wasteland.text import show

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
@verb
def doctor_command(out: Out, fix: bool, check: bool) -> None:
    """Check this installation, its configuration, clone, key and remotes."""
    from wasteland import doctor

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
