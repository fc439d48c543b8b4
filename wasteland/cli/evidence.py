"""`wl evidence check, show`: whether what was handed in is still what was signed."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from wasteland.cli.output import Out, verb


@click.group("evidence")
def evidence_command() -> None:
    """Look at the evidence of a completion, and check it."""


@evidence_command.command("check")
@click.argument("what", metavar="ID")
@click.option("--repo", metavar="REPO", help="A path or https URL where the commits are, in place of the signed one.")
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The file that you have.")
@verb
def check_evidence(out: Out, what: str, repo: str | None, file: Path | None) -> None:
    """Look again at the evidence of ID, a completion or an item, part by part.

    Exit code 0 all is as it was signed, 1 something changed or is gone, 3
    cannot decide.  Addresses are asked only over https and only on known
    hosts; see the setting evidence-hosts.
    """
    from wasteland import evidence

    report = evidence.check(out.node, what, repo=repo, file=file)
    out.result(report.to_json(), report.lines())
    if report.exit_code:
        out.finish()
        sys.stdout.flush()
        raise click.exceptions.Exit(report.exit_code)


@evidence_command.command("show")
@click.argument("what", metavar="ID")
@verb
def show_evidence(out: Out, what: str) -> None:
    """Show what was signed about the evidence of ID, a completion or an item; nothing is fetched."""
    from wasteland import evidence

    found = evidence.find(out.node, what)
    out.result(found.to_json(), found.lines())
