"""`wl login, logout`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wasteland.cli.output import Out, field, verb
from wasteland.errors import Usage, WastelandError
from wasteland.local import config as configuration

if TYPE_CHECKING:
    from wasteland.hub.dolthub import DolthubHub

HUB = click.option("--hub", metavar="URL", help="Which hub: DoltHub, unless WL_HUB names another.")


@click.command("login")
@HUB
@verb
def login_command(out: Out, hub: str | None) -> None:
    """Store the API token for a hub, and give the hub the key that Dolt pushes with.

    The token is read from standard input, or asked for without showing it.
    """
    from wasteland.dolt import binary
    from wasteland.hub import credentials
    from wasteland.hub.dolthub import DolthubHub, discover
    from wasteland.hub.site import base_url, cache_folder

    base = base_url(_named(hub))
    token = credentials.checked(_typed(base))
    cache = cache_folder(out.paths)
    there = DolthubHub(discover(base, cache, fresh=True), token, cache, say=out.say)
    try:
        user = there.whoami()
        store = credentials.save(base, out.paths, token)
        home = binary.dolt_home(out.paths.data)
        had = credentials.selected_key(home)
        key = had or credentials.dolt_key(home)
        registered = there.register_key(key)
    finally:
        there.finish()
    if not had:
        _stop_servers(out, home)
    lines = [f"✓ Logged in to {base}", field("User", user), field("Token kept in", store), field("Dolt key", key)]
    lines += ["  The hub knows this key; clones and pushes use it."] if registered else _by_hand(there)
    if base.startswith("http://") and not base.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]")):
        out.say("This hub is reached without encryption: everybody on the way can read the token.")
    out.result(
        {
            "schema_version": 1, "hub": base, "user": user, "store": store, "dolt_key": key,
            "key_registered": registered,
        },
        lines,
    )  # fmt: skip


@click.command("logout")
@HUB
@verb
def logout_command(out: Out, hub: str | None) -> None:
    """Forget the stored token of a hub; the key of Dolt stays."""
    from wasteland.hub import credentials
    from wasteland.hub.site import base_url

    base = base_url(_named(hub))
    there = credentials.forget(base, out.paths)
    lines = [f"✓ Logged out of {base}" if there else f"No token of {base} was stored."]
    left = credentials.find_token(base, out.paths)
    if left:
        lines.append(f"  A token is still found in {left.source}; commands go on using it.")
    out.result({"schema_version": 1, "hub": base, "forgotten": there, "still": left.source if left else None}, lines)


def _named(hub: str | None) -> str:
    from wasteland.hub.site import DOLTHUB

    return hub or configuration.setting("WL_HUB") or DOLTHUB


def _typed(base: str) -> str:
    """The token, from a pipe or from a person."""
    if sys.stdin is None or not sys.stdin.isatty():
        text = sys.stdin.read(1 << 16) if sys.stdin else ""
        if not text.strip():
            raise Usage("no token came on standard input", hint="wl login < FILE, or run it in a terminal")
        return text
    return _hidden(f"API token for {base}: ")


def _hidden(prompt: str) -> str:
    """A line that a person types unseen; Abort at its end of file.

    A signal is waited for together with the line.  One that came just before
    a blocking read would be noticed only after the line, and the terminal
    would hide what is typed until then.
    """
    import select
    import termios

    terminal, line = sys.stdin.fileno(), b""
    click.echo(prompt, nl=False, err=True)
    with _signals_held() as came:
        before = termios.tcgetattr(terminal)
        hiding = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        try:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, hiding)
            while not line.endswith(b"\n"):
                if came in select.select([terminal, came], [], [])[0] or not (more := os.read(terminal, 4096)):
                    raise click.Abort
                line += more
        finally:
            termios.tcflush(terminal, termios.TCIFLUSH)  # half a token is not for the shell
            termios.tcsetattr(terminal, termios.TCSANOW, before)
            click.echo(err=True)
    return line.decode(errors="replace").strip()


@contextlib.contextmanager
def _signals_held() -> Iterator[int]:
    """Let what ends this process wait until the end of the block; a descriptor that can be read once something has."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    came: list[int] = []
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in numbers
        if signal.getsignal(number) != signal.SIG_IGN
    }
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
        if came:
            signal.raise_signal(came[0])


def _by_hand(there: DolthubHub) -> list[str]:
    """Where the public key has to be pasted, for a hub that takes it on its web page only."""
    return ["  So that clones and pushes work, paste this key once at:", f"    {there.site.page}/settings/credentials"]


def _stop_servers(out: Out, home: Path) -> None:
    """Stop the servers that have read Dolt's settings before there was a key; the next command starts a new one."""
    from wasteland.dolt.server import Server

    for upstream in configuration.joined(out.paths):
        with contextlib.suppress(WastelandError):
            clone = configuration.read(out.paths, upstream).clone
            if clone.is_dir():
                Server(clone, home).stop()
