"""`wl post, claim, renew, unclaim, done, accept, reject, close, update, delete`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from wasteland.cli.output import Out, field, listed, verb
from wasteland.errors import Usage
from wasteland.text import show

DONE = {
    "claim": ("Claimed", "do the work, then: wl done {id} --evidence <url>"),
    "renew": ("Renewed the claim of", "do the work, then: wl done {id} --evidence <url>"),
    "takeover": ("Took over", "do the work, then: wl done {id} --evidence <url>"),
    "unclaim": ("Unclaimed", "item is back on the board. Browse: wl browse"),
    "done": ("Completion submitted for", "wait for review. Check: wl status {id}"),
    "accept": ("Accepted", "stamp issued. View: wl status {id}"),
    "reject": ("Rejected", "claimer can fix and resubmit: wl done {id} --evidence <url>"),
    "close": ("Closed", "item completed. View: wl status {id}"),
    "update": ("Updated", "wl browse to see the board"),
    "delete": ("Withdrawn", "wl browse to see the board"),
}
# What follows in PR mode, where a step is proposed and counts when its pull request has landed.
PROPOSED = {
    "unclaim": "proposed: the item is back on the board when it has landed. Check: wl status {id}",
    "accept": "the stamp is proposed, and counts when it has landed. Check: wl status {id}",
    "reject": "proposed: when it has landed, the claimer can fix and resubmit",
    "close": "proposed: the item is completed when it has landed. Check: wl status {id}",
    "update": "proposed: the board shows it when it has landed. Check: wl status {id}",
    "delete": "proposed: the item is withdrawn when it has landed. Check: wl status {id}",
}
no_push = click.option("--no-push", is_flag=True, help="Keep the change on this machine for now.")


def tags_of(text: str | None) -> list[str] | None:
    """Words between commas; None where the option was not given."""
    return None if text is None else [word for part in text.split(",") if (word := part.strip())]


def content(function: Callable[..., None]) -> Callable[..., None]:
    """The options that are an item's content."""
    for option in (
        click.option("--tags", help="Words between commas."),
        click.option("--effort", help="trivial, small, medium, large or epic."),
        click.option("--priority", type=int, help="0 (critical) to 4 (backlog)."),
        click.option("--type", "kind", help="feature, bug, design, rfc, docs or inference."),
        click.option("--project", help="The project that it belongs to."),
        click.option("-d", "--description", help="What is wanted."),
    ):
        function = option(function)
    return function


def _fields(title: str | None, **given: Any) -> dict[str, Any]:
    priority = given["priority"]
    return {
        "title": title,
        "description": given["description"],
        "project": given["project"],
        "type": given["kind"] or None,
        "priority": None if priority == -1 else priority,
        "effort_level": given["effort"],
        "tags": tags_of(given["tags"]),
    }


@click.command("post")
@click.option("--title", required=True, help="One line that says what is wanted.")
@content
@no_push
@verb
def post_command(out: Out, title: str, no_push: bool, **given: Any) -> None:
    """Put an item on the Wanted Board."""
    from wasteland.market import board

    fields = {name: value for name, value in _fields(title, **given).items() if value is not None}
    made = board.post(out.node, fields, push=not no_push)
    item = made.item
    lines = [f"✓ Posted wanted item: {item.id}", field("Title", item.title, width=9)]
    for label, value in (("Project", item.project), ("Type", item.type), ("Priority", item.priority),
                         ("Effort", item.effort_level), ("Tags", listed(item.tags)),
                         ("Posted by", item.posted_by), ("Branch", made.branch)):  # fmt: skip
        if value is not None:
            lines.append(field(label, value, width=9))
    lines += _pull_lines(made)
    when = "proposed: others can claim this when it has landed" if made.branch else "others can claim this"
    following = f"  Next: {when}. Browse: wl browse"
    out.result(made.to_json(), [*lines, "", following])


def _pull_lines(made: Any) -> list[str]:
    if made.pull:
        return [field("PR", f"#{made.pull.number} {made.pull.url}")]
    return ["  Kept on this machine (--no-push)"] if not made.pushed else []


def _no_markdown(md: bool) -> None:
    if md:
        raise Usage("--md is for pull requests and branches", hint="wl status shows an item")


proposals_md = click.option("--md", is_flag=True, help="Of a proposal: print what was written, as Markdown.")


def _print(out: Out, made: Any, extra: list[str] | None = None) -> None:
    done, following = DONE[made.verb]
    item = made.item
    following = PROPOSED.get(made.verb, following) if made.branch else following
    status = f"{item.status} (proposed)" if made.branch else item.status
    lines = [f"✓ {done} {item.id}", field("Title", item.title), field("Status", status)]
    if made.verb == "claim":
        lines.append(field("Claimed by", item.claimed_by))
    if made.lease:
        from wasteland.rules.lease import moment

        lines.append(field("Leased until", moment(made.lease.expires_at)))
    lines += extra or []
    if made.branch:
        lines.append(field("Branch", made.branch))
    lines += _pull_lines(made)
    if made.reverted:
        lines.append("  Reverted: nothing is left to propose, the branch was cleaned up")
    out.result(made.to_json(), [*lines, "", "  Next: " + following.format(id=item.id)])


@click.command("claim")
@click.argument("wanted_id")
@click.option("--for", "lasting", metavar="TIME", help="How long, like 5d or 12h; at most what the effort allows.")
@click.option("--take-over", is_flag=True, help="Take the claim of a rig whose lease has ended.")
@no_push
@verb
def claim_command(out: Out, wanted_id: str, lasting: str | None, take_over: bool, no_push: bool) -> None:
    """Claim WANTED_ID, so that others see somebody is on it.

    The item must be open.  In PR mode the claim goes upstream as a pull
    request; until it is merged, another rig may still claim the item first.

    The claim is leased for as long as the effort says (trivial 1 day, small
    3, medium 7, large 14, epic 30): go on with it by `wl renew`.  One hour
    after the lease has ended, another rig may take the claim over.
    """
    from wasteland.market import board

    _print(out, board.claim(out.node, wanted_id, lasting=lasting, take_over=take_over, push=not no_push))


@click.command("renew")
@click.argument("wanted_id")
@click.option("--for", "lasting", metavar="TIME", help="How long, like 5d or 12h; at most what the effort allows.")
@no_push
@verb
def renew_command(out: Out, wanted_id: str, lasting: str | None, no_push: bool) -> None:
    """Go on with your claim of WANTED_ID: its lease begins anew, from now."""
    from wasteland.market import board

    _print(out, board.renew(out.node, wanted_id, lasting=lasting, push=not no_push))


@click.command("unclaim")
@click.argument("wanted_id")
@no_push
@verb
def unclaim_command(out: Out, wanted_id: str, no_push: bool) -> None:
    """Give WANTED_ID back to the board; its claimer or its poster may."""
    from wasteland.market import board

    _print(out, board.unclaim(out.node, wanted_id, push=not no_push))


@click.command("withdraw")
@click.argument("wanted_id")
@verb
def withdraw_command(out: Out, wanted_id: str) -> None:
    """Take back what you propose of WANTED_ID: its pull request is closed, the work is kept on a branch here."""
    from wasteland.market.withdraw import withdraw

    found = withdraw(out.node, wanted_id)
    about = f", pull request #{found.pull} closed" if found.pull else ""
    out.result(found.to_json(), [f"✓ Withdrawn: {show(found.item)}{about}", field("Kept as", found.kept)])


@click.command("done")
@click.argument("wanted_id")
@click.option("--evidence", help="A URL, a commit, or words that show it.")
@click.option(
    "--file", type=click.Path(exists=True, dir_okay=False), help="A file that is the work; its digest is signed."
)
@click.option("--repo", help="With --base and --head: the path or https URL of the repository that holds the work.")
@click.option("--base", help="The commit or branch that the work starts from.")
@click.option("--head", help="The commit or branch that the work ends at.")
@click.option("--fetch", is_flag=True, help="Fetch what the evidence's URL leads to, and sign its digest.")
@click.option("--publish-paths", is_flag=True, help="Leave paths of this machine as they are, not only their names.")
@no_push
@verb
def done_command(out: Out, wanted_id: str, evidence: str | None, no_push: bool, **given: Any) -> None:
    """Submit the completion of WANTED_ID, which you have claimed.

    Words are signed as they are.  Of a file, of commits and with --fetch, the
    digests are signed too, so that `wl evidence check` can tell whether they changed.
    """
    from wasteland.market import board

    text, manifest = _evidence(out, evidence, **given)
    made = board.done(out.node, wanted_id, text, manifest=manifest, push=not no_push)
    _print(out, made, _completion_lines(made))


def _evidence(
    out: Out,
    text: str | None,
    *,
    file: str | None,
    repo: str | None,
    base: str | None,
    head: str | None,
    fetch: bool,
    publish_paths: bool,
) -> tuple[str, dict[str, Any]]:
    """The evidence that the options name, and its manifest."""
    from pathlib import Path

    from wasteland import evidence

    commits = evidence.Commits(repo, base, head) if repo and base and head else None
    if commits is None and (repo or base or head):
        raise Usage("--repo, --base and --head go together")
    return evidence.make(
        text, file=Path(file) if file else None, commits=commits, load=fetch, paths=publish_paths,
        reach=evidence.reach_of(out.node),
    )  # fmt: skip


def _completion_lines(made: Any) -> list[str]:
    if made.completion is None:
        return []
    found = [field("Completed by", made.completion.completed_by), field("Evidence", made.completion.evidence)]
    signed = f"signed ({made.completion.block_hash[:12]}…)" if made.completion.block_hash else "unsigned"
    return [*found, field("Completion", f"{made.completion.id}, {signed}")]


def _per_mille(ctx: click.Context, param: click.Parameter, value: float | None) -> int | None:
    if value is not None and not 0 <= value <= 1:
        raise Usage(f"invalid {str(param.name).replace('_', ' ')} {value:g}: must be 0-1")
    return None if value is None else round(value * 1000)


@click.command("accept")
@click.argument("wanted_id")
@click.option("--quality", type=int, required=True, help="1 to 5.")
@click.option("--reliability", type=int, help="1 to 5; as quality where not given.")
@click.option("--creativity", type=int, help="1 to 5; left out where not given.")
@click.option("--quality-confidence", type=float, callback=_per_mille, help="0 to 1.")
@click.option("--reliability-confidence", type=float, callback=_per_mille, help="0 to 1.")
@click.option("--creativity-confidence", type=float, callback=_per_mille, help="0 to 1.")
@click.option(
    "--confidence", type=float, default=1.0, callback=_per_mille, help="0 to 1, where a score has none of its own."
)
@click.option("--severity", default="leaf", help="leaf, branch or root.")
@click.option("--skills", help="Words between commas.")
@click.option("--message", help="What you think of the work.")
@no_push
@verb
def accept_command(
    out: Out, wanted_id: str, severity: str, skills: str | None, message: str | None, no_push: bool, **given: Any
) -> None:
    """Accept the completion of WANTED_ID and stamp its worker.

    Each score has a confidence of its own.  The poster or a validator may
    accept; nobody accepts their own work.
    """
    from wasteland.market import board

    overall = given["confidence"]
    given["reliability"] = given["quality"] if given["reliability"] is None else given["reliability"]
    scores = {
        dim: (given[dim], overall if given[f"{dim}_confidence"] is None else given[f"{dim}_confidence"])
        for dim in board.DIMENSIONS
        if given[dim] is not None
    }
    said = board.Judgement(scores, overall, severity, tuple(tags_of(skills) or ()), message)
    made = board.accept(out.node, wanted_id, said, push=not no_push)
    told = ", ".join(
        f"{dim.capitalize()}: {score} (confidence {sure / 1000:g})" for dim, (score, sure) in scores.items()
    )
    extra = [f"  {told}", field("Severity", severity)]
    if skills:
        extra.append(field("Skills", ", ".join(tags_of(skills) or [])))
    if made.stamp:
        signed = f"signed ({made.stamp.block_hash[:12]}…)" if made.stamp.block_hash else "unsigned"
        signed = f"{signed}, proposed" if made.branch else signed
        extra.append(field("Stamp", f"{made.stamp.id} for {show(made.stamp.subject)}, {signed}"))
    _print(out, made, extra)


@click.command("reject")
@click.argument("wanted_id")
@click.option("--reason", help="What is missing; stays in the item's history.")
@no_push
@proposals_md
@verb
def reject_command(out: Out, wanted_id: str, reason: str | None, no_push: bool, md: bool) -> None:
    """Send WANTED_ID back to its claimer; its poster may.

    Of a pull request's number or ORG:BRANCH, reject that proposal, and close it.
    """
    from wasteland.market import board
    from wasteland.node.forks import names_proposal

    if names_proposal(wanted_id):
        from wasteland.cli.review import reject

        reject(out, wanted_id, reason or "", md=md)
        return
    _no_markdown(md)
    _print(out, board.reject(out.node, wanted_id, reason, push=not no_push))


@click.command("close")
@click.argument("wanted_id")
@no_push
@proposals_md
@verb
def close_command(out: Out, wanted_id: str, no_push: bool, md: bool) -> None:
    """Complete WANTED_ID without a stamp; its poster may, unless it is the poster's own work.

    Of a pull request's number, close that, without a verdict.
    """
    from wasteland.market import board
    from wasteland.node.forks import names_proposal

    if names_proposal(wanted_id):
        from wasteland.cli.review import close

        close(out, wanted_id, md=md)
        return
    _no_markdown(md)
    _print(out, board.close(out.node, wanted_id, push=not no_push))


@click.command("update")
@click.argument("wanted_id")
@click.option("--title", help="One line that says what is wanted.")
@content
@no_push
@verb
def update_command(out: Out, wanted_id: str, title: str | None, no_push: bool, **given: Any) -> None:
    """Change WANTED_ID, an open item of yours."""
    from wasteland.market import board

    _print(out, board.update(out.node, wanted_id, _fields(title, **given), push=not no_push))


@click.command("delete")
@click.argument("wanted_id")
@no_push
@verb
def delete_command(out: Out, wanted_id: str, no_push: bool) -> None:
    """Withdraw WANTED_ID, an open item of yours; it stays in history."""
    from wasteland.market import board

    _print(out, board.delete(out.node, wanted_id, push=not no_push))
