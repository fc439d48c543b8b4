"""`wl`: words in, one verb, words out.

The table below is all that `wl --help` needs; a command's module is imported
when the command runs.  One handler turns an error into a sentence, a hint and
an exit code (`errors`).
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import importlib
import io
import os
import sys
import threading
from typing import Any, NoReturn

import click

from wasteland.errors import (
    DiskFull,
    Locked,
    Misconfigured,
    NotPermitted,
    TooManyFiles,
    Unwritten,
    Usage,
    WastelandError,
)

COMMANDS = {
    "create": ("member", "Make a wasteland of your own."),
    "join": ("member", "Join a wasteland: fork, clone, key, registration."),
    "leave": ("member", "Forget a wasteland; clone and keys stay."),
    "list": ("member", "List the wastelands that this user has joined."),
    "config": ("member", "Read or change a setting."),
    "post": ("board", "Put an item on the Wanted Board."),
    "browse": ("browse", "Show the Wanted Board."),
    "status": ("browse", "Show one item with its completion, stamp and history."),
    "claim": ("board", "Claim an open item."),
    "unclaim": ("board", "Give a claimed item back."),
    "withdraw": ("board", "Take back what you propose of an item."),
    "done": ("board", "Submit the evidence that an item is done."),
    "accept": ("board", "Accept a completion and stamp its worker."),
    "reject": ("board", "Send a completion back to its worker."),
    "close": ("board", "Complete an item without a stamp."),
    "renew": ("board", "Renew the lease of a claim of yours."),
    "update": ("board", "Change an open item of yours."),
    "delete": ("board", "Withdraw an open item of yours."),
    "sync": ("browse", "Bring the clone level with upstream."),
    "review": ("review", "Show what a branch or pull request would change."),
    "inbox": ("review", "List the open pull requests of the wasteland."),
    "comment": ("review", "Write under a pull request."),
    "approve": ("review", "Approve a pull request or branch at its head of now."),
    "request-changes": ("review", "Say what must change in a pull request."),
    "merge": ("review", "Land a reviewed branch or pull request upstream."),
    "queue": ("review", "Land the approved pull requests in order."),
    "evidence": ("evidence", "Show evidence, or check that it is still what was signed."),
    "watch": ("watch", "Wait for new items, pull requests and verdicts."),
    "fork": ("company", "Make a company's own wasteland out of another."),
    "valve": ("company", "What comes in from the parent wasteland, and what goes up."),
    "hub": ("hub", "Serve a hub of your own: users, forks, pull requests."),
    "login": ("account", "Store a token for a hub, and make Dolt's key known to it."),
    "logout": ("account", "Forget the token of a hub."),
    "orders": ("work", "Work orders out, work reports in."),
    "role": ("trust", "Show or change who is root, maintainer, validator."),
    "verify": ("trust", "Check signatures of stamps, completions or commits."),
    "leaderboard": ("trust", "Rank rigs by their verified stamps."),
    "me": ("browse", "Show what concerns this rig."),
    "doctor": ("machine", "Check this installation and clone, and mend them."),
    "server": ("machine", "Look at or stop the clone's database server."),
    "version": ("machine", "Print the version."),
    "completion": ("machine", "Print a shell completion script."),
}
ALIASES = {"show": "status"}
# Commands that only show something: a reader who has seen enough of it, as `head` has, is not told that it was cut off.
READING = frozenset(
    {"list", "browse", "status", "show", "review", "inbox", "evidence", "watch", "verify", "leaderboard", "me",
     "doctor", "version", "completion"}
)  # fmt: skip
USAGE = Usage.exit_code
SENTENCE = 600  # characters
NARROWEST, WIDEST = 50, 80  # characters in a line of help
OBJECTS = 50_000  # more than there were, before the collector looks for cycles: a short command makes no more


class Screen(click.Context):
    """A context whose help is as wide as click makes it, without `shutil`, which loads three archive formats."""

    def make_formatter(self) -> click.HelpFormatter:
        """As wide as the terminal, but neither wider than the widest help nor too narrow to read."""
        width = max(min(columns(), self.max_content_width or WIDEST) - 2, NARROWEST)
        return self.formatter_class(width=self.terminal_width or width)


def columns() -> int:
    """How wide the terminal is, in characters, as `shutil.get_terminal_size` finds it."""
    with contextlib.suppress(ValueError):
        if (told := int(os.environ.get("COLUMNS", ""))) > 0:
            return told
    with contextlib.suppress(AttributeError, ValueError, OSError):
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or WIDEST  # type: ignore[union-attr]
    return WIDEST


class Commands(click.Group):
    """Commands that are imported when they are called."""

    context_class = Screen

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the one command."""
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"wasteland.cli.{COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in `--help`, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--wasteland", metavar="ORG/DB", help="Which wasteland, where several are joined.")
@click.option("--local-db", is_flag=True, hidden=True)
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Accepted; output is plain."
)
@click.pass_context
def wl(ctx: click.Context, wasteland: str | None, local_db: bool, color: str) -> None:
    """A node of the Wasteland: claim work, prove it, stamp it, review it."""
    ctx.obj = {"wasteland": wasteland}


def main(argv: list[str] | None = None) -> None:
    """The program `wl`; never returns."""
    open_streams()
    gc.set_threshold(OBJECTS)
    end(run(sys.argv[1:] if argv is None else argv))


def end(code: int) -> NoReturn:
    """End the process; what was to be run or written at its end is.

    The interpreter would then free every object one by one, which takes a
    fifth of a short command's time; the kernel does it at once.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        discard(1)
    if threading.active_count() > 1:
        sys.exit(code)  # the interpreter knows which threads to wait for
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def open_streams() -> None:
    """Make the three standard streams usable, whatever the caller closed and whatever letters they can show.

    A descriptor below 3 that was closed would be given to the next file that is
    opened, and words meant for a person would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard(descriptor: int) -> None:
    """Let nothing more be written to standard output (1) or error (2), which is closed, full or gone.

    Otherwise the interpreter would try once more at its end, and change the exit code to 120.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def run(argv: list[str]) -> int:
    """Run one command line; its exit code."""
    as_json = "--json" in argv
    try:
        if any("\ud800" <= char <= "\udfff" for word in argv for char in word):
            raise Usage("a word of the command is not text in UTF-8")
        code = _called(argv)
    except Unwritten as error:
        discard(1)
        return report(error, as_json=False)
    except WastelandError as error:
        return report(error, as_json)
    except click.exceptions.Exit as ended:
        return int(ended.exit_code)
    except click.ClickException as error:
        return report(_usage(error), as_json)
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OSError as error:
        if isinstance(error, BrokenPipeError) and {"-h", "--help"} & {*argv, *([] if argv else ["-h"])}:
            discard(1)
            return 0
        return report(from_os(error), as_json)
    except Exception as error:
        if os.environ.get("WL_DEBUG"):
            raise
        return report(_internal(error), as_json)
    return code if isinstance(code, int) else 0


def _called(argv: list[str]) -> object:
    """What the command gives back.  Click's own `main` would end the process, with code 1, at any broken pipe."""
    if "_WL_COMPLETE" in os.environ:
        return wl.main(argv, prog_name="wl", standalone_mode=False)
    with wl.make_context("wl", list(argv)) as context:
        return wl.invoke(context)


def _usage(error: click.ClickException) -> WastelandError:
    context = getattr(error, "ctx", None)
    return Usage(" ".join(error.format_message().split()), hint=f"{context.command_path} --help" if context else None)


def _internal(error: Exception) -> WastelandError:
    found = WastelandError(f"internal error: {type(error).__name__}: {error}", hint="WL_DEBUG=1 shows where")
    found.exit_code = 70
    return found


def from_os(error: OSError) -> WastelandError:
    """The machine's refusal as a sentence; it says nothing of what was done before it."""
    where = error.filename if error.filename is not None else "this machine"
    about = os.fsdecode(where) if isinstance(where, str | bytes) else str(where)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"the disk is full ({about})", about=about, hint="make room; then wl status shows what was done before"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return TooManyFiles(f"too many files are open ({about})", about=about, hint="raise the limit: ulimit -n")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return NotPermitted(f"cannot use {about}: {error.strerror}", about=about)
    if error.errno in (errno.EAGAIN, errno.EDEADLK, errno.ETXTBSY, errno.EBUSY):
        return Locked(f"another program holds {about}: {error.strerror}", about=about, hint="try again")
    return Misconfigured(f"{about}: {error.strerror or error}", about=about)


def _cut(text: str) -> str:
    """A sentence that repeats a user's 100 kB is still a sentence."""
    return text if len(text) <= SENTENCE else text[:SENTENCE] + "…"


def report(error: WastelandError, as_json: bool) -> int:
    """Print an error where it belongs; its exit code."""
    from wasteland.text import masked, show

    message, hint = masked(error.message), masked(error.hint or "")
    if as_json:
        import json

        found: dict[str, Any] = {
            "code": error.code, "message": message, "retryable": error.retryable, "exit_code": error.exit_code,
        }  # fmt: skip
        if hint:
            found["hint"] = hint
        if error.about:
            found["about"] = masked(error.about)
        stream, text = sys.stdout, json.dumps({"schema_version": 1, "error": found}) + "\n"
    else:
        stream, text = sys.stderr, f"wl: {_cut(show(message))}\n"
        if hint:
            text += f"  Hint: {_cut(show(hint))}\n"
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # the exit code says it too
        discard(1 if stream is sys.stdout else 2)
    return error.exit_code
