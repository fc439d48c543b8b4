"""`wl watch`."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wasteland.cli.output import Out, unwritten, verb
from wasteland.errors import Misconfigured, NotFound, Usage
from wasteland.text import name, show

if TYPE_CHECKING:
    from wasteland.local.config import Config
    from wasteland.watch.events import Event, Search
    from wasteland.watch.telling import Program
    from wasteland.watch.waiting import Wake

FILTERS = ("project", "type", "priority", "priority_at_most", "search", "tag")
SLOWLY = 300.0  # seconds between two looks where webhooks come
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("watch")
@click.option("--project", help="Only new items of this project.")
@click.option("--type", "type", help="Only new items of this type.")
@click.option("--priority", type=click.IntRange(0, 4), help="Only new items of this priority.")
@click.option("--priority-at-most", type=click.IntRange(0, 4), help="Only new items this urgent or more: 0 is first.")
@click.option("--search", help="Only new items with these words in the title.")
@click.option("--tag", help="Only new items with this tag.")
@click.option("--save", metavar="NAME", help="Store these filters under NAME, and end.")
@click.option("--saved", metavar="NAME", help="Use the filters stored under NAME.")
@click.option("--list", "listing", is_flag=True, help="List the stored searches, and end.")
@click.option("--forget", metavar="NAME", help="Forget the stored search NAME, and end.")
@click.option("--all", "everything", is_flag=True, help="The first watch of this clone also tells what is there.")
@click.option("--every", metavar="TIME", help="Usual time between two looks, like 30s or 2m.  [default: 30s]")
@click.option("--once", is_flag=True, help="Look once, tell what is new since the last watch, and end.")
@click.option("--for", "lasting", metavar="TIME", help="End after this time, like 90s, 10m, 12h or 5d.")
@click.option("--count", type=click.IntRange(1), help="End after so many events.")
@click.option("--exec", "command", metavar="CMD", help="Run CMD for each event, which it gets as JSON on stdin.")
@click.option("--exec-limit", type=click.IntRange(1, 3600), default=60, show_default=True, help="Seconds for CMD.")
@click.option("--listen", metavar="HOST:PORT", help="Receive webhooks here, and look when one comes.")
@click.option("--secret-file", type=FILE, help="File with the secret of the webhooks.")
@click.option("--item", metavar="ID", help="With --until: wait for this item only.")
@click.option("--until", type=click.Choice(["landed", "changes", "stamp"]), help="With --item: what to wait for.")
@verb
def watch_command(
    out: Out, save: str | None, saved: str | None, listing: bool, forget: str | None, item: str | None,
    until: str | None, **given: Any,
) -> None:  # fmt: skip
    """Wait for new items, pull requests that wait for you, and verdicts on your own.

    A line for each event, or with --json an object.  What was told is
    remembered: after an end of any kind the next watch goes on where this one
    was.  Delivery is at least once; an event told twice has the same id.  CMD
    runs without a shell, one at a time, and sees no tokens.  Webhooks carry
    the signature of `wl hub`, or come to /hook/SECRET.

    --item ID --until landed, changes or stamp ends with 0 as soon as that is
    so, and with 75 when the time of --for is up.
    """
    filters = {key: given.pop(key) for key in FILTERS}
    filters = {key: value for key, value in filters.items() if value is not None}
    if sum(map(bool, (save, saved, listing, forget))) > 1 or (filters and (saved or listing or forget)):
        raise Usage("--save, --saved, --list and --forget exclude each other, and only --save goes with filters")
    config = out.node.config
    if item is not None or until is not None:
        _until(out, item, until, save or saved or listing or forget or filters, **given)
    elif listing:
        _list(out, config)
    elif save is not None:
        _save(out, config, save, filters)
    elif forget is not None:
        _forget(out, config, forget)
    else:
        _watch(out, _search(_found(config, saved) if saved else filters), **given)


def searches(config: Config) -> dict[str, dict[str, Any]]:
    """The stored searches of a wasteland, by name; Misconfigured where the file holds something else."""
    found = config.node.get("searches") or {}
    if not isinstance(found, dict) or not all(
        isinstance(one, dict) and all(_fits(key, value) for key, value in one.items()) for one in found.values()
    ):
        raise Misconfigured(f"{config.node_path}: searches has the wrong type", about=str(config.node_path))
    return found


def _fits(key: str, value: object) -> bool:
    return key in FILTERS and (type(value) is int if key.startswith("priority") else isinstance(value, str))


def _found(config: Config, saved: str) -> dict[str, Any]:
    known = searches(config)
    if saved not in known:
        raise NotFound(f"there is no search {show(saved)!r}", about=saved, hint="wl watch --list")
    return known[saved]


def _search(filters: dict[str, Any]) -> Search:
    from wasteland.watch.events import Search

    return Search(**filters)


def _list(out: Out, config: Config) -> None:
    known = searches(config)
    lines = [f"  {show(title)}: {_words(one)}" for title, one in sorted(known.items())]
    out.result({"schema_version": 1, "searches": known}, lines or ["No stored searches."])


def _words(search: dict[str, Any]) -> str:
    return "  ".join(f"--{key.replace('_', '-')} {show(value)}" for key, value in search.items())


def _save(out: Out, config: Config, title: str, filters: dict[str, Any]) -> None:
    if not filters:
        raise Usage("there is nothing to store: give filters, like --project or --search")
    config.node["searches"] = searches(config) | {name(title, "search"): filters}
    config.save_node()
    out.result({"schema_version": 1, "saved": title, "search": filters}, [f"✓ Stored {title}: {_words(filters)}"])


def _forget(out: Out, config: Config, title: str) -> None:
    _found(config, title)
    config.node["searches"] = {key: one for key, one in searches(config).items() if key != title}
    config.save_node()
    out.result({"schema_version": 1, "forgotten": title}, [f"✓ Forgot {show(title)}"])


def _watch(
    out: Out, search: Search, *, everything: bool, every: str | None, once: bool, lasting: str | None,
    count: int | None, command: str | None, exec_limit: int, listen: str | None, secret_file: Path | None,
) -> None:  # fmt: skip
    from wasteland.node.node import open_node
    from wasteland.watch.looking import Eyes
    from wasteland.watch.memory import Store
    from wasteland.watch.telling import Program
    from wasteland.watch.waiting import Plan, Wake, Watch

    if (listen is None) != (secret_file is None):
        raise Usage("--listen and --secret-file go together", about="listen")
    usual = seconds(every) if every else SLOWLY if listen else 30.0
    plan = Plan(Eyes(search, everything), usual, once, seconds(lasting) if lasting else None, count)
    program: Program | None = Program.of(command, float(exec_limit)) if command else None
    wake = Wake()
    config = out.node.config
    store = Store(out.node.db.server.folder)

    def tell(event: Event) -> None:
        out.tell(json.dumps(event.to_json(), default=str) if out.as_json else event.line())
        if out.unwritten is not None:
            raise unwritten(click.get_current_context(), out.unwritten)

    watch = Watch(lambda: open_node(config.upstream), store, plan, tell, program, out.say, wake)
    with _stopped_by_signals(wake), _hooks(out, listen, secret_file, wake):
        watch.run()


def _until(
    out: Out, item: str | None, until: str | None, more: object, *, every: str | None, once: bool, lasting: str | None,
    **given: object,
) -> None:  # fmt: skip
    """Wait for one thing of one item; TimeUp where it does not come."""
    from wasteland.node.node import open_node
    from wasteland.watch.until import wait_until

    given["exec_limit"] = None  # it has a default
    if item is None or until is None or more or any(given.values()):
        raise Usage("--item and --until go together, and only with --for, --every or --once")
    upstream = out.node.config.upstream
    limit = 0.0 if once else seconds(lasting) if lasting else None
    usual = seconds(every) if every else 30.0
    found = wait_until(lambda: open_node(upstream), item, until, every=usual, lasting=limit, say=out.say)
    out.result(found, [f"✓ {show(found['item'])}: {until}"])


def seconds(text: str) -> float:
    """A time like `45s`, `90m`, `12h` or `5d` in seconds; Usage for anything else."""
    from wasteland.rules.lease import duration

    if text.endswith("s"):
        return duration(f"{text[:-1]}m").total_seconds() / 60
    return duration(text).total_seconds()


@contextlib.contextmanager
def _stopped_by_signals(wake: Wake) -> Iterator[None]:
    from wasteland.watch.waiting import Stop

    before = {
        number: signal.signal(number, lambda *_: wake.stop()) for number in (signal.SIGINT, signal.SIGTERM)
    }  # fmt: skip
    try:
        with contextlib.suppress(Stop):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _hooks(out: Out, listen: str | None, secret_file: Path | None, wake: Wake) -> Iterator[None]:
    if listen is None or secret_file is None:
        yield
        return
    from wasteland.hub.receiver import listening, secret_of

    with listening(listen, secret_of(secret_file), wake.event.set) as address:
        out.say(f"Listening for webhooks on {address}/hook/…")
        yield
