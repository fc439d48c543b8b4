"""`wl inbox, comment, approve, request-changes, queue`, and `reject` and `close` of a proposal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from wasteland.cli.output import Out, cell, field, verb
from wasteland.errors import Conflict, Usage, WastelandError
from wasteland.text import show

if TYPE_CHECKING:
    from wasteland.review.queue import Outcome
    from wasteland.review.respond import Answer

DETAIL = 300  # characters
COLUMNS = (("#", 5), ("AGE", 7), ("RIG", 16), ("DOES", 18), ("STATE", 10), ("TITLE", 44))


@click.command("inbox")
@click.option("--md", is_flag=True, help="As a Markdown table.")
@click.option("--no-fetch", is_flag=True, help="Fetch only the forks of pull requests that are new here.")
@verb
def inbox_command(out: Out, md: bool, no_fetch: bool) -> None:
    """List the open pull requests: age, rig, what each does, whether it merges."""
    from wasteland.node import proposals, sync

    _one_format(out, md)
    sync.refresh(out.node)
    found = proposals.inbox(out.node, fetch=not no_fetch)
    now = out.node.clock()
    rows = [
        (f"#{p.number}", proposals.age(p.opened, now), p.rig, ", ".join(p.verbs), p.state, p.title) for p in found
    ]  # fmt: skip
    value = {"schema_version": 1, "pulls": [p.to_json() for p in found]}
    if md:
        out.result(value, _markdown([title for title, _ in COLUMNS], rows))
        return
    lines = ["  " + " ".join(cell(title, width) for title, width in COLUMNS).rstrip()]
    for row, proposal in zip(rows, found, strict=True):
        lines.append("  " + " ".join(cell(text, width) for text, (_, width) in zip(row, COLUMNS, strict=True)).rstrip())
        if proposal.detail:
            lines.append(f"        {show(proposal.detail)[:DETAIL]}")
    out.result(value, lines if found else ["No open pull requests."])


def _markdown(titles: list[str], rows: Sequence[tuple[str, ...]]) -> list[str]:
    from wasteland.review.judge import code

    lines = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    return lines + [f"| {' | '.join(code(text).replace('|', '¦') for text in row)} |" for row in rows]


def _one_format(out: Out, md: bool) -> None:
    if md and out.as_json:
        raise Usage("--json and --md exclude each other")


def answered(out: Out, answer: Answer, done: str, *, md: bool = False) -> None:
    """Print what was said to a proposal."""
    _one_format(out, md)
    if md:
        out.result(answer.to_json(), [answer.said])
        return
    name = f"#{answer.pull.number}" if answer.pull else show(answer.what)
    lines = [f"✓ {done} {name}"]
    if answer.verdict:
        lines.append(field("Head", answer.verdict.head))
    if answer.pull:
        lines.append(field("PR", f"#{answer.pull.number} {answer.pull.url}"))
    else:
        lines.append("  There is no pull request: the verdict is kept on this machine.")
    out.result(answer.to_json(), lines)


def _said(function: Any) -> Any:
    """The options of what answers a proposal."""
    for option in (
        click.option("--md", is_flag=True, help="Print what was written, as Markdown."),
        click.option("--head", help="The hash that you reviewed; refused when the branch is another by now."),
        click.option("-m", "--message", default="", help="Why."),
        click.argument("what"),
    ):
        function = option(function)
    return function


@click.command("comment")
@click.argument("what")
@click.argument("text")
@click.option("--md", is_flag=True, help="Print what was written, as Markdown.")
@verb
def comment_command(out: Out, what: str, text: str, md: bool) -> None:
    """Write TEXT under the pull request WHAT."""
    from wasteland.review import respond

    answered(out, respond.comment(out.node, what, text), "Commented on", md=md)


@click.command("approve")
@_said
@verb
def approve_command(out: Out, what: str, message: str, head: str | None, md: bool) -> None:
    """Approve WHAT at its head of now: a pull request, a branch, or ORG:BRANCH.  `wl queue` lands it."""
    from wasteland.review import respond

    answered(out, respond.approve(out.node, what, message, head=head), "Approved", md=md)


@click.command("request-changes")
@_said
@verb
def request_changes_command(out: Out, what: str, message: str, head: str | None, md: bool) -> None:
    """Say what must change in WHAT before it can land; it stays open."""
    from wasteland.review import respond

    answered(out, respond.request_changes(out.node, what, message, head=head), "Asked for changes in", md=md)


def reject(out: Out, what: str, message: str, *, md: bool) -> None:
    """Reject a proposal, and close its pull request."""
    from wasteland.review import respond

    answered(out, respond.reject(out.node, what, message), "Rejected", md=md)


def close(out: Out, what: str, *, md: bool) -> None:
    """Close a pull request without a verdict."""
    from wasteland.review import respond

    answered(out, respond.close(out.node, what), "Closed", md=md)


@click.command("queue")
@click.option("--auto", is_flag=True, help="Also land what the rules let in without a person.")
@click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing.")
@click.option("--md", is_flag=True, help="As a Markdown table.")
@verb
def queue_command(out: Out, auto: bool, dry_run: bool, md: bool) -> None:
    """Land the approved pull requests in order; what conflicts stays open and its author is told."""
    from wasteland.review import queue

    _one_format(out, md)
    found: list[Outcome] = []
    stopped: WastelandError | None = None
    try:
        for one in queue.run(out.node, auto=auto, dry_run=dry_run):
            found.append(one)
            if not out.as_json and not md:
                detail = f"  {show(one.detail)[:DETAIL]}" if one.detail else ""
                click.echo(f"  #{one.pull:<5} {one.state:<10} {show(one.source)}{detail}")
    except WastelandError as error:
        if not found:
            raise
        stopped = error  # what has landed before is told all the same
    rows = [(f"#{one.pull}", one.state, one.source, one.detail) for one in found]
    lines = _markdown(["#", "STATE", "BRANCH", "WHY"], rows) if md else [] if found else ["No open pull requests."]
    value: dict[str, Any] = {"schema_version": 1, "dry_run": dry_run, "pulls": [one.to_json() for one in found]}
    out.result(value | ({"stopped": stopped.message} if stopped else {}), lines)
    if stopped and not out.as_json:
        raise stopped
    if stopped:
        click.get_current_context().exit(stopped.exit_code)
    stuck = [one.pull for one in found if one.state in (queue.CONFLICT, queue.REFUSED)]
    if stuck and not out.as_json:
        raise Conflict(f"{len(stuck)} of {len(found)} pull requests did not land: {', '.join(f'#{n}' for n in stuck)}")
    if stuck:
        click.get_current_context().exit(Conflict.exit_code)
