"""`gt`: words in, one verb, words out.  Commands load when they are called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from gastown.errors import TownError, Usage
from gastown.text import masked, show

COMMANDS = {
    "agents": ("gastown.cli.views", "agents"),
    "approve": ("gastown.cli.work", "approve"),
    "cancel": ("gastown.cli.work", "cancel"),
    "down": ("gastown.cli.run", "down"),
    "install": ("gastown.cli.setup", "install"),
    "log": ("gastown.cli.views", "log"),
    "rig": ("gastown.cli.setup", "rig"),
    "sling": ("gastown.cli.work", "sling"),
    "status": ("gastown.cli.views", "status"),
    "up": ("gastown.cli.run", "up"),
}


class Lazy(click.Group):
    """A group that imports a command's module when the command is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, by name."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(module), name)
        return found


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--town", metavar="PATH", help="The town to work on; else GT_TOWN, else upwards from here.")
@click.version_option(package_name="wasteland", prog_name="gt")
@click.pass_context
def gt(ctx: click.Context, town: str | None) -> None:
    """A Gas Town: has coding agents do work in a sandbox, tests the merged result, lands it."""
    ctx.obj = town


def main(argv: Sequence[str] | None = None) -> None:
    """Run `gt`; an error becomes one sentence, a hint and an exit code, never a traceback."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        if any("\ud800" <= char <= "\udfff" for word in words for char in word):
            raise Usage("a word of the command is not text in UTF-8")
        code = gt.main(args=words, prog_name="gt", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except click.ClickException as error:
        _say(error.format_message(), None)
        sys.exit(64)
    except TownError as error:
        _debug()
        _say(error.message, error.hint)
        sys.exit(error.exit_code)
    except Exception as error:
        _debug()
        _say(f"something failed that should not: {type(error).__name__}: {error}", "GT_DEBUG=1 shows where")
        sys.exit(1)


def _debug() -> None:
    if os.environ.get("GT_DEBUG"):
        raise


def _say(message: str, hint: str | None) -> None:
    click.echo(f"gt: {show(masked(message))}", err=True)
    if hint:
        click.echo(f"  Hint: {show(masked(hint))}", err=True)
