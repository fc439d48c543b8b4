"""`wl review, merge`."""

from __future__ import annotations

from typing import Any

import click

from wasteland.cli.output import Out, field, verb
from wasteland.errors import Usage
from wasteland.text import show


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
    from wasteland.dolt.database import told
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
    done = "Upstream's main already contains" if landed.already else "Merged"
    lines = [f"✓ {done} {show(pin.source)}", field("Head", pin.head), field("Main", landed.commit)]
    if not landed.already:
        lines += [f"    {f.verdict:<7} {show(f.detail)}" for f in landed.review.judgement.findings]
    lines.append("  Pushed; upstream's main contains it" if landed.pushed else "  Kept on this machine (--no-push)")
    out.result(landed.to_json(), lines)
