"""`wl role, verify`."""

from __future__ import annotations

import sys
from collections import Counter

import click

from wasteland.cli.output import Out, verb
from wasteland.errors import Usage
from wasteland.text import show


@click.group("role")
def role_command() -> None:
    """Show or change who is root, maintainer and validator."""


@role_command.command("list")
@verb
def list_roles(out: Out) -> None:
    """Show the signed roles document."""
    from wasteland.node import roles

    document = roles.roles_document(out.node)
    if document is None:
        out.result({"schema_version": 1, "version": 0, "roles": {}}, ["This commons has no roles document."])
        return
    lines = [f"Roles, version {document['version']}:"]
    for role, held in document["roles"].items():
        lines.append(f"  {role}: {', '.join(show(p['handle']) for p in held) or '-'}")
    out.result({"schema_version": 1, "version": document["version"], "roles": document["roles"]}, lines)


@role_command.command("add")
@click.argument("role", type=click.Choice(["root", "maintainer", "validator"]))
@click.argument("handle")
@verb
def add_role(out: Out, role: str, handle: str) -> None:
    """Give HANDLE a ROLE: sign the next version of the roles and land it."""
    _change(out, role, handle, add=True)


@role_command.command("remove")
@click.argument("role", type=click.Choice(["root", "maintainer", "validator"]))
@click.argument("handle")
@verb
def remove_role(out: Out, role: str, handle: str) -> None:
    """Take a ROLE from HANDLE."""
    _change(out, role, handle, add=False)


def _change(out: Out, role: str, handle: str, *, add: bool) -> None:
    from wasteland.node import landing, levelling, roles

    node = out.node
    levelling.refresh(node)
    words = "add" if add else "remove"
    version = landing.landing(
        node, f"wl role {words}: {role} {handle}", lambda: roles.change_roles(node, role, handle, add=add), push=True
    )
    found = {"schema_version": 1, "version": version, "role": role, "handle": handle, "added": add}
    gained = "is now" if add else "is no longer"
    out.result(found, [f"✓ Roles version {version}: {show(handle)} {gained} {role}"])


@click.command("verify")
@click.argument("kind", required=False)
@click.argument("row_id", required=False)
@click.option("--all", "everything", is_flag=True, help="Every stamp and completion, counted by verdict.")
@click.option("--last", type=int, help="GPG signatures of the last N Dolt commits.")
@verb
def verify_command(out: Out, kind: str | None, row_id: str | None, everything: bool, last: int | None) -> None:
    """Check signatures: `stamp ID`, `completion ID`, --all, or --last N commits.

    Exit code 0 verified, 1 invalid, 2 unsigned, 3 cannot decide.
    """
    from wasteland.node import current, verifying

    if sum((kind is not None, everything, last is not None)) > 1:
        raise Usage("wl verify takes one of: stamp ID, completion ID, --all, --last N")
    if everything:
        _all(out)
        return
    if kind is None:
        _commits(out, 5 if last is None else last)
        return
    if row_id is None or kind not in ("stamp", "completion"):
        raise Usage("wl verify takes: stamp ID, completion ID, --all, or --last N")
    report = current.judged(out.node, lambda: verifying.verify(out.node, kind, row_id))
    lines = [*report.lines(), f"exit {report.verdict.exit_code}"]
    out.result({"schema_version": 1, "kind": kind, **report.to_json()}, lines)
    _leave(out, report.verdict.exit_code)


def _leave(out: Out, code: int) -> None:
    if code:
        out.finish()
        sys.stdout.flush()
        raise click.exceptions.Exit(code)


def _all(out: Out) -> None:
    from wasteland.node import verifying
    from wasteland.trust.verification import Verdict

    found = verifying.verify_all(out.node)
    counts = Counter(report.verdict for _, report in found)
    bad: dict[str, str] = {}
    for kind, report in found:
        if report.verdict in (Verdict.INVALID, Verdict.UNDECIDED):
            author = report.title.split(" ")[0]
            why = next((c.detail for c in report.checks if c.decides and c.ok is not True), "")
            bad.setdefault(author, f"{kind} {report.subject_id}: {report.verdict.name}: {why}")
    shown = {verdict.name.lower(): counts.get(verdict, 0) for verdict in Verdict}
    lines = [f"  {name}: {count}" for name, count in shown.items()]
    lines += [f"  {show(author)}: {show(why)}" for author, why in sorted(bad.items())]
    out.result({"schema_version": 1, "counts": shown, "first_failures": bad}, ["Stamps and completions:", *lines])
    worst = next((v for v in (Verdict.INVALID, Verdict.UNDECIDED) if counts.get(v)), Verdict.VERIFIED)
    _leave(out, worst.exit_code)


def _commits(out: Out, last: int) -> None:
    if not 1 <= last <= 10_000:
        raise Usage(f"invalid number {last}: must be 1-10000")
    found = out.node.db.commit_signatures("main", last)
    lines: list[str] = []
    for commit, signature in found:
        state = {None: "unsigned", "": "signed, but the signature cannot be checked here"}.get(signature, "signed")
        lines += [f"commit {commit.hash}", f"  Author: {show(commit.author)} <{show(commit.email)}>",
                  f"  Date:   {commit.date:%Y-%m-%d %H:%M:%S} UTC", f"  GPG:    {state}"]  # fmt: skip
        if signature:
            lines += [f"    {show(line)}" for line in signature.strip().splitlines()]
        lines += [f"    {show(commit.message)}", ""]
    shown = [
        {"commit": c.hash, "author": c.author, "message": c.message, "signed": s is not None, "signature": s}
        for c, s in found
    ]
    out.result({"schema_version": 1, "commits": shown}, lines)


@click.command("leaderboard")
@click.option("--limit", type=int, default=20, show_default=True)
@verb
def leaderboard_command(out: Out, limit: int) -> None:
    """Rank rigs by their verified stamps; unsigned and invalid ones weigh nothing."""
    from wasteland.cli.output import cell
    from wasteland.node import verifying

    if not 1 <= limit <= 100:
        raise Usage(f"invalid limit {limit}: must be 1-100")
    found = verifying.leaderboard(out.node)[:limit]
    lines = [f"  {'#':>3} {'RIG':<24} {'DONE':>5} {'VERIFIED':>8} {'QUALITY':>8} {'RELIAB':>8} {'CREATIV':>8}"]
    for number, one in enumerate(found, 1):
        scores = [
            f"{one['scores'][dim]:>8.2f}" if dim in one["scores"] else f"{'-':>8}"
            for dim in ("quality", "reliability", "creativity")
        ]
        verified = one["stamps"]["verified"]
        lines.append(
            f"  {number:>3} {cell(one['handle'], 24)} {one['completions']:>5} {verified:>8} {' '.join(scores)}"
        )
    out.result({"schema_version": 1, "rigs": found}, lines if found else ["No completions yet."])
