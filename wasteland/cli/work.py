"""`wl orders next, report`: the seam to whoever does the work."""

from __future__ import annotations

import click

from wasteland.cli.output import Out, field, verb
from wasteland.errors import Refused, Usage
from wasteland.text import show

REPORT_LIMIT = 1 << 20


@click.group("orders")
def orders_command() -> None:
    """Work orders out, work reports in."""


@orders_command.command("next")
@click.option("--id", "wanted_id", help="Only this item.")
@verb
def next_order(out: Out, wanted_id: str | None) -> None:
    """Show the items that this rig has claimed, as an engine takes them."""
    from wasteland.market import browse

    found = browse.order(out.node, wanted_id)
    lines = [f"  {show(order['wanted_id'])}  {show(order['title'])}" for order in found]
    out.result({"schema_version": 1, "orders": found}, lines or ["No claimed items."])


@orders_command.command("report")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--publish-paths", is_flag=True, help="Say the repository's path on this machine too, not only its name.")
@click.option("--no-push", is_flag=True, help="Keep the change on this machine for now.")
@verb
def report_order(out: Out, file: str, publish_paths: bool, no_push: bool) -> None:
    """Submit the completion that the work report FILE (or - for stdin) describes.

    A report that was submitted before is found and not submitted again.
    """
    from wasteland.market import board, browse, propose
    from wasteland.orders import parse_report

    with click.open_file(file, "rb") as source:
        data = source.read(REPORT_LIMIT + 1)
    if len(data) > REPORT_LIMIT:
        raise Usage(f"the report is larger than {REPORT_LIMIT} bytes")
    report = parse_report(data.decode("utf-8", "strict") if _is_utf8(data) else "")
    if report.outcome != "landed":
        raise Refused(
            f"{report.wanted_id} did not land ({report.outcome}); nothing is submitted", about=report.wanted_id
        )
    manifest = report.manifest(paths=publish_paths)
    known = browse.status(out.node, report.wanted_id)
    if known.completion and known.completion.evidence == manifest["uri"] and known.item.status != "claimed":
        propose.need_offered(out.node, known.item.id)
        found = {"schema_version": 1, "already": True, "completion": known.completion.to_json()}
        out.result(found, [f"Already submitted: {known.completion.id}"])
        return
    made = board.done(
        out.node, report.wanted_id, manifest["uri"], manifest=manifest,
        box=(report.sandbox_level, report.sandbox_network), push=not no_push,
    )  # fmt: skip
    lines = [f"✓ Completion submitted for {made.item.id}"]
    if made.completion:
        lines += [field("Completion", made.completion.id), field("Evidence", made.completion.evidence)]
    if made.pull:
        lines.append(field("PR", f"#{made.pull.number} {made.pull.url}"))
    out.result({**made.to_json(), "already": False}, lines)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
