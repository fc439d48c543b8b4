"""`wl inbox, review, merge, comment, approve, request-changes, queue`, and `reject` and `close` of a proposal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from wasteland.cli.output import Out, cell, field, verb
from wasteland.errors import Conflict, Usage, WastelandError
from wasteland.text import cut, show

if TYPE_CHECKING:
    from wasteland.review.queue import Outcome
    from wasteland.review.respond import Answer

DETAIL = 300  # columns
COLUMNS = (("#", 5), ("AGE", 7), ("RIG", 16), ("DOES", 18), ("STATE", 10), ("TITLE", 44))


@click.command("inbox")
@click.option("--md", is_flag=True, help="As a Markdown table.")
@click.option("--no-fetch", is_flag=True, help="Fetch only the forks of pull requests that are new here.")
@verb
def inbox_command(out: Out, md: bool, no_fetch: bool) -> None:
    """List the open pull requests: age, rig, what each does, whether it merges."""
    from wasteland.node import levelling, proposals

    _one_format(out, md)
    levelling.refresh(out.node)
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
            lines.append(f"        {cut(show(proposal.detail), DETAIL)}")
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
                detail = f"  {cut(show(one.detail), DETAIL)}" if one.detail else ""
                out.tell(f"  #{one.pull:<5} {one.state:<10} {show(one.source)}{detail}")
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


@click.command("review")
@click.argument("what", required=False)
@click.option("--stat", is_flag=True, help="Count rows and cells by table.")
@click.option("--md", is_flag=True, help="Markdown, as in the pull request.")
@click.option("--create-pr", is_flag=True, help="Open or refresh the branch's pull request.")
@verb
def review_command(out: Out, what: str | None, stat: bool, md: bool, create_pr: bool) -> None:
    """Show what WHAT would change: a branch, a pull request's number, or ORG:BRANCH.

    Without WHAT, list what there is to review.
    """
    from wasteland.review import judge

    if stat + md + create_pr + (out.as_json and not create_pr) > 1:
        raise Usage("--json, --md, --stat and --create-pr exclude each other")
    if what is None:
        found = judge.branches(out.node)
        out.result(found, _listing(found))
        return
    if create_pr:
        pull = judge.create_pull(out.node, what)
        out.result(
            {"schema_version": 1, "pull": pull.number, "url": pull.url}, [f"✓ Pull request #{pull.number}: {pull.url}"]
        )
        return
    seen = judge.review(out.node, what)
    lines = _stat(seen) if stat else [judge.markdown(what, seen.rows)] if md else _full(seen)
    out.result(seen.to_json(), lines)


def _listing(found: list[dict[str, Any]]) -> list[str]:
    if not found:
        return ["Nothing to review."]
    lines = []
    for row in found:
        if "pull" in row:
            lines.append(f"  #{row['pull']}  {show(row['title'])}  ({show(row['branch'])} by {show(row['author'])})")
        else:
            lines.append(f"  {show(row['branch'])}")
    return ["Review branches:", *lines]


def _stat(seen: Any) -> list[str]:
    tables: dict[str, dict[str, int]] = {}
    for row in seen.rows:
        counts = tables.setdefault(row.table, {"added": 0, "modified": 0, "removed": 0, "cells": 0})
        counts[row.kind] += 1
        counts["cells"] += len(row.columns)
    return [
        f"  {show(t)}: {c['added']} rows added, {c['modified']} modified, {c['removed']} removed, {c['cells']} cells"
        for t, c in sorted(tables.items())
    ] or ["  No differences."]


def _full(seen: Any) -> list[str]:
    from wasteland.dolt.history import told
    from wasteland.models import jsonable
    from wasteland.review.judge import cells

    pin = seen.pinned
    lines = [f"{show(pin.source)}", field("Head", pin.head), field("Base", pin.base)]
    if pin.pull:
        lines.append(field("PR", f"#{pin.pull.number} {pin.pull.title} ({pin.pull.state})"))
    for row in seen.rows:
        lines += ["", f"  {show(row.table)} {row.kind}: {show(row.key)}"]
        for column, old, new in cells(row):
            before = f"{show(jsonable(old))} → " if row.old is not None else ""
            lines.append(f"    {show(column)}: {before}{show(jsonable(new))}")
    lines += ["", f"  Verdict: {seen.judgement.verdict}"]
    lines += [f"    {f.verdict:<10} {f.rule:<14} {show(f.detail)}" for f in seen.judgement.findings]
    lines += [f"  Conflicts with upstream: {told([one])}" for one in seen.conflicts]
    return lines


@click.command("merge")
@click.argument("what")
@click.option("--head", help="The hash that you reviewed; refused when the branch is another by now.")
@click.option("--no-push", is_flag=True, help="Keep the merge on this machine for now.")
@click.option("--keep-branch", is_flag=True, help="Do not delete the branch.")
@click.option("--md", is_flag=True, help="Print what is written under the pull request, as Markdown.")
@verb
def merge_command(out: Out, what: str, head: str | None, no_push: bool, keep_branch: bool, md: bool) -> None:
    """Land WHAT upstream: a branch, a pull request's number, or ORG:BRANCH.

    Its head is pinned, its rows are judged against upstream's data, and the
    landing is proved by ancestry.  Maintainers only.
    """
    from wasteland.review import land

    if md and out.as_json:
        raise Usage("--json and --md exclude each other")
    landed = land.merge(out.node, what, push=not no_push, keep_branch=keep_branch, head=head)
    if md:
        out.result(None, [land.verdict_text(landed)])
        return
    pin = landed.review.pinned
    source, closed = show(pin.source), f"; #{pin.pull.number} is closed" if pin.pull else ""
    done = {
        "": f"Merged {source}",
        land.EARLIER: f"Upstream's main already contains {source}",
        land.TAKEN_OVER: f"Upstream's main holds the rows of {source} already, by other ways{closed}",
        land.EMPTY: f"{source} changes nothing{closed}",
    }[landed.over]
    lines = [f"✓ {done}", field("Head", pin.head), field("Main", landed.commit)]
    if not landed.over:
        lines += [f"    {f.verdict:<7} {show(f.detail)}" for f in landed.review.judgement.findings]
        lines.append("  Pushed; upstream's main contains it" if landed.pushed else "  Kept on this machine (--no-push)")
    out.result(landed.to_json(), lines)
