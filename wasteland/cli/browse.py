"""`wl browse, status, me, sync`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from wasteland.cli.output import Out, block, cell, field, listed, verb
from wasteland.errors import NotFound, Unauthenticated, Unreachable, Usage
from wasteland.text import cut, show

COLUMNS = (("ID", 12), ("TITLE", 40), ("PROJECT", 12), ("TYPE", 10), ("PRI", 4), ("POSTED BY", 16), ("STATUS", 10),
           ("EFFORT", 8))  # fmt: skip
LONG = 400  # columns of a description in a list
MOST = 10_000
VIEWS = ("", "all", "mine", "upstream")


def refreshed(out: Out) -> None:
    """Bring the clone level, or say that what follows is as of the last sync."""
    from wasteland.node import levelling, proposals

    try:
        levelling.refresh(out.node)
        if out.node.config.mode == "pr" and out.node.hub is not None:
            proposals.inbox(out.node, fetch=False)
    except (NotFound, Unreachable, Unauthenticated) as error:
        out.node.notice(f"shown as of the last sync: {error.message}")


@click.command("browse")
@click.option("--project")
@click.option("--status", "state", default="", help="open, claimed, in_review, completed or withdrawn; all by default.")
@click.option("--type", "kind")
@click.option("--priority", type=int, default=-1)
@click.option("--posted-by")
@click.option("--claimed-by")
@click.option("--search", help="Words in the title.")
@click.option("--limit", type=int, default=50, show_default=True)
@click.option("--view", default="", help="all (default), mine or upstream: whether your unlanded branches show.")
@click.option("-l", "--long", is_flag=True, help="With descriptions.")
@click.option("--no-sync", is_flag=True, help="Do not ask upstream first.")
@verb
def browse_command(out: Out, limit: int, view: str, long: bool, no_sync: bool, **given: Any) -> None:
    """Show the Wanted Board, all items by priority and age."""
    from wasteland.market import browse

    if view not in VIEWS:
        raise Usage(f'invalid view "{view}": must be all, mine or upstream')
    if not 1 <= limit <= MOST:
        raise Usage(f"invalid limit {limit}: must be 1-{MOST}")
    if not no_sync:
        refreshed(out)
    filters = {
        "project": given["project"], "status": given["state"] or None, "type": given["kind"],
        "priority": None if given["priority"] == -1 else given["priority"], "posted_by": given["posted_by"],
        "claimed_by": given["claimed_by"], "search": given["search"],
    }  # fmt: skip
    found = browse.browse(out.node, filters, limit=limit, long=long, view=view or "all")
    if view == "mine":
        found = [one for one in found if one.branch]
    if out.as_json:
        out.result([one.to_json() for one in found], ())
    else:
        out.result(None, _table(found, long, out.node.clock()))


def _table(found: list[Any], long: bool, now: datetime) -> list[str]:
    if not found:
        return ["No wanted items found."]
    lines = [f"Wanted items ({len(found)}):", ""]
    lines.append(
        "  " + " ".join(f"{name:>{width}}" if name == "PRI" else f"{name:<{width}}" for name, width in COLUMNS)
    )
    lines.append("  " + "─" * (sum(width for _, width in COLUMNS) + len(COLUMNS) - 1))
    for one in found:
        item = one.item
        priority = "" if item.priority is None else f"P{item.priority}"
        values = (item.id, item.title, item.project, item.type, f"{priority:>4}", item.posted_by, item.status,
                  item.effort_level)  # fmt: skip
        row = " ".join(cell(value, width) for value, (_, width) in zip(values, COLUMNS, strict=True))
        lines.append("  " + row.rstrip() + (f"  ({show(one.branch)})" if one.branch else ""))
        if long and item.description:
            lines.append(f"      {cut(show(item.description), LONG)}")
        lines += _waiting(one, now)
    return lines


def _waiting(one: Any, now: datetime) -> list[str]:
    """What waits in others' pull requests for an item, and a lease that has run out."""
    from wasteland.node import proposals
    from wasteland.rules import lease

    lines = [
        f"      {', '.join(p.verbs)} by {show(p.rig)} waits in pull request #{p.number}, "
        f"{proposals.age(p.opened, now)} old"
        for p in one.pending
    ]
    if one.lease and lease.state(one.lease, now) != lease.RUNNING:
        lines.append(f"      claim of {show(one.lease.rig)}: {lease.sentence(one.lease, now)}")
    return lines


@click.command("status")
@click.argument("wanted_id")
@verb
def status_command(out: Out, wanted_id: str) -> None:
    """Show WANTED_ID with its completion, stamp, history and what you may do."""
    from wasteland.market import browse

    card = browse.status(out.node, wanted_id)
    out.result(card.to_json(), _card(card, out.node.clock()))


def _card(card: Any, now: datetime) -> list[str]:
    from wasteland.rules.lease import sentence

    item = card.item
    priority = "" if item.priority is None else f"P{item.priority}"
    lines = [f"{show(item.id)}: {show(item.title)}", "", field("Status", item.status, width=12)]
    rows = (("Type", item.type), ("Priority", priority), ("Project", item.project), ("Effort", item.effort_level),
            ("Posted by", item.posted_by), ("Claimed by", item.claimed_by),
            ("Tags", listed(item.tags)), ("Created", item.created_at),
            ("Updated", item.updated_at), ("Branch", card.branch))  # fmt: skip
    lines += [field(label, value, width=12) for label, value in rows if value]
    if card.branch:
        lines.append(field("On main", card.main_status or "not there yet", width=12))
        lines.append(field("Proposed", f"{', '.join(card.proposed)}; counts when it has landed", width=12))
    if card.pull:
        lines.append(field("PR", f"#{card.pull.number} {card.pull.url}", width=12))
    if card.said:
        lines.append(field("Said", show(card.said.sentence), width=12))
        lines.append(field("Answer", f"wl done {item.id} --evidence …, or wl withdraw {item.id}", width=12))
    if card.lease:
        lines.append(field("Lease", sentence(card.lease, now), width=12))
    lines += _waiting(card, now)
    if item.description:
        lines += ["", *block("Description", item.description)]
    lines += _judged(card)
    if card.history:
        lines += ["", "  History:"]
        lines += [f"    {h['at']}  {show(h['by'])}: {show(h['what'])}" for h in card.history]
    if card.actions:
        lines += ["", f"  You may: {', '.join(card.actions)}"]
    return lines


def _judged(card: Any) -> list[str]:
    lines: list[str] = []
    if card.completion:
        done = card.completion
        signed = "signed" if done.block_hash else "unsigned"
        lines += ["", f"  Completion {show(done.id)} by {show(done.completed_by)}, {signed}"]
        lines += block("Evidence", done.evidence or "")
        lines += _evidence(card.evidence)
    if card.stamp:
        stamp = card.stamp
        valence = stamp.valence if isinstance(stamp.valence, dict) else {}
        scores = ", ".join(f"{show(k)} {show(v)}" for k, v in valence.items()) or "no scores"
        signed = "signed" if stamp.block_hash else "unsigned: weighs nothing"
        lines += ["", f"  Stamp {show(stamp.id)} by {show(stamp.author)}, {show(stamp.severity)}, {signed}"]
        lines.append(f"    {scores}")
        if stamp.message:
            lines += block("Message", stamp.message)
    return lines


def _evidence(manifest: dict[str, Any] | None) -> list[str]:
    """What the worker signed of the evidence; of one that we do not understand, why."""
    from wasteland.errors import BadSignature
    from wasteland.trust.manifest import checked_manifest, lines_of

    if not manifest or manifest.get("kind") == "text":
        return []
    try:
        return [f"    {line}" for line in lines_of(checked_manifest(manifest))]
    except BadSignature as error:
        return [f"    {show(error.message)}"]


@click.command("me")
@click.option("--no-sync", is_flag=True, help="Do not ask upstream first.")
@click.option("--next", "following", is_flag=True, help="Only what can be done now, in order, each with its command.")
@verb
def me_command(out: Out, no_sync: bool, following: bool) -> None:
    """Show what concerns this rig: claims, branches, reviews, completions, standing."""
    from wasteland.market import browse

    if not no_sync:
        refreshed(out)
    if following:
        _next(out)
        return
    found = browse.mine(out.node)
    lines = [f"{show(found['handle'])}" + (f" ({', '.join(found['roles'])})" if found["roles"] else "")]
    for key, label in (("claimed", "Claimed"), ("branches", "On branches"), ("to_review", "Awaiting my review")):
        if found[key]:
            lines += ["", f"  {label}:"]
            lines += [f"    {show(i['id'])}  {show(i['title'])}  ({show(i.get('status'))})" for i in found[key]]
    lines += said_lines(found["said"])
    if found["completed"]:
        lines += ["", "  Recent completions:"]
        lines += [f"    {show(c['wanted_id'])}  {show(c.get('evidence', ''))[:80]}" for c in found["completed"]]
    lines += ["", *standing_lines(found["standing"])]
    out.result(found, lines)


def said_lines(said: dict[str, dict[str, Any]]) -> list[str]:
    """What reviewers said of this rig's proposals and waits for an answer, for people."""
    lines: list[str] = []
    for item, one in said.items():
        lines.append(f"    {show(item)}  {show(one['sentence'])}")
        lines.append(f"        wl done {show(item)} --evidence …, or wl withdraw {show(item)}")
    return ["", "  To answer:", *lines] if lines else []


def _next(out: Out) -> None:
    """What this rig can do now: answer changes that were asked for, renew, hand in, claim."""
    from wasteland.market.next_steps import next_steps

    found = next_steps(out.node)
    lines = []
    for one in found:
        about = f" (#{one.pull})" if one.pull else ""
        lines += [f"  {one.do}: {show(one.item)}{about}  {show(one.title)}", f"      {show(one.why)}"]
        lines.append(f"      {show(one.command)}")
    value = {"schema_version": 1, "handle": out.node.handle, "next": [one.to_json() for one in found]}
    out.result(value, ["Next:", *lines] if lines else ["Nothing to do: nothing is claimed, and nothing is open."])


def standing_lines(standing: dict[str, Any]) -> list[str]:
    """A rig's standing, for people."""
    counts = standing["stamps"]
    scores = ", ".join(f"{dim} {score:.2f}" for dim, score in standing["scores"].items()) or "no verified score yet"
    return [
        f"  Standing: {standing['completions']} completions, {counts['verified']} verified stamps "
        f"({counts['unsigned']} legacy, {counts['invalid']} invalid, {counts['undecided']} undecided)",
        f"    {scores}",
    ]


def _anew(out: Out) -> dict[str, Any]:
    from wasteland.member.anew import start_anew

    made = start_anew(out.node, out.say)
    return {"kept": list(made.kept), "pull": made.pull}


@click.command("sync")
@click.option("--dry-run", is_flag=True, help="Fetch, and only say what would come.")
@click.option("--level", is_flag=True, help="Bring the fork's main level now, not only every ten minutes.")
@click.option("--upgrade", is_flag=True, help="Take a new major version of upstream's schema over.")
@click.option("--anew", is_flag=True, help="Take a history that was rewritten or made anew; what is here is kept.")
@verb
def sync_command(out: Out, dry_run: bool, upgrade: bool, level: bool, anew: bool) -> None:
    """Bring the clone level with upstream; nothing unpushed is lost."""
    from wasteland.node import sync
    from wasteland.review.respond import own_said

    aside = _anew(out) if anew and not dry_run else {}
    found: dict[str, Any] = aside | sync.sync(out.node, dry_run=dry_run, upgrade=upgrade, level=level)
    lines = [f"Local fork: {out.node.config.local_dir}", ""]
    lines += [f"  Kept from before: branch {show(name)}" for name in aside.get("kept", [])]
    if number := aside.get("pull"):
        lines.append(f"  Registration asked for: pull request {number}")
    if dry_run:
        lines.append("~ Dry run — checking upstream for changes...")
    changes = found["incoming"]
    lines += [
        f"  {show(t)}: {k['added']} added, {k['modified']} modified, {k['removed']} removed" for t, k in changes.items()
    ]
    if not changes:
        lines.append("  Already level with upstream.")
    if not dry_run:
        lines += [f"  Landed and cleaned up: {show(branch)}" for branch in found["cleaned"]]
        lines += ["", "✓ Synced with upstream", ""]
        found["said"] = {item: one.to_json() | {"sentence": one.sentence} for item, one in own_said(out.node).items()}
        if told := said_lines(found["said"]):
            lines += [*told[1:], ""]
        labels = (("open_wanted", "Open wanted"), ("total_wanted", "Total wanted"),
                  ("total_completions", "Total completions"), ("total_stamps", "Total stamps"))  # fmt: skip
        lines += [field(label, found[key], width=18) for key, label in labels]
    out.result({"schema_version": 1, **found}, lines)
