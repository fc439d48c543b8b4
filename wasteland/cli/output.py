"""What all commands share: the common options, the node, and printing."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from wasteland.cli import READING, discard
from wasteland.errors import Unwritten
from wasteland.local.steps import step
from wasteland.text import cut, masked, show, show_lines, width

if TYPE_CHECKING:
    from wasteland.local.config import Paths
    from wasteland.node.node import Node


class Out:
    """Where a command's words go: results to stdout, the rest to stderr."""

    def __init__(self, *, as_json: bool, wasteland: str | None) -> None:
        self.as_json = as_json
        self.wasteland = wasteland
        self.unwritten: OSError | ValueError | None = None
        self._node: Node | None = None

    @property
    def paths(self) -> Paths:
        """The user's folders."""
        from wasteland.local import config

        return config.paths()

    @property
    def node(self) -> Node:
        """The node of the wasteland that was named, or of the only one."""
        if self._node is None:
            from wasteland.node.node import open_node

            self._node = open_node(self.wasteland)
            self._node.say = self.say
        return self._node

    def adopt(self, node: Node) -> Node:
        """Say its notices and close it at the end, as for a node of ours."""
        self._node = node
        return node

    def result(self, value: Any, lines: Iterable[str]) -> None:
        """The command's result: one JSON value, or lines."""
        if self.as_json:
            self.tell(json.dumps(value, ensure_ascii=True, default=str))
        elif told := list(lines):
            self.tell("\n".join(told))
        step("acknowledged")

    def tell(self, text: str) -> None:
        """A part of the result, at once.

        What cannot be written stops nothing: it is remembered, and `finish` says so when all is done.
        """
        if self.unwritten is None:
            try:
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()
            except (OSError, ValueError) as error:
                self.unwritten = error

    def say(self, text: str, indent: str = "  ") -> None:
        """Progress; nothing depends on whether it can be written."""
        try:
            sys.stderr.write(f"{indent}{show(masked(text))}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            discard(2)

    def finish(self) -> None:
        """Say the notices and end the sessions."""
        if self._node is not None:
            for text in self._node.notices:
                self.say(f"Note: {text}")
            self._node.notices.clear()
            self._node.close()


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the common options, and its function an `Out` in their place."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout.")
    @click.option("--wasteland", metavar="ORG/DB", help="Which wasteland, where several are joined.")
    @click.option("--local-db", is_flag=True, hidden=True)
    @click.option("--color", type=click.Choice(["auto", "always", "never"]), hidden=True)
    @click.pass_context
    @functools.wraps(function)
    def wrapped(
        ctx: click.Context, /, as_json: bool, wasteland: str | None, local_db: bool, color: str | None, **rest: Any
    ) -> None:
        root = ctx.find_root().obj or {}
        out = Out(as_json=as_json, wasteland=wasteland or root.get("wasteland"))
        try:
            function(out, **rest)
        finally:
            out.finish()
        if out.unwritten is not None:
            raise unwritten(ctx, out.unwritten)

    return wrapped


def unwritten(ctx: click.Context, error: OSError | ValueError) -> Exception:
    """What is said of a result that could not be written; nothing where a reader left what was only shown."""
    if isinstance(error, BrokenPipeError) and set(ctx.command_path.split()) & READING:
        discard(1)
        return click.exceptions.Exit(0)
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Unwritten(f"done, but its result could not be written: {why}", hint="wl status and wl me show what was done")


def field(label: str, value: object, *, width: int = 0) -> str:
    """`  Label: value`, on one line whatever the value holds."""
    return f"  {label + ':':<{width}} {show(value)}"


def block(label: str, text: str) -> list[str]:
    """A text of many lines under its label, each line indented."""
    return [f"  {label}:", show_lines(text, "    ")]


def listed(value: object) -> str | None:
    """A JSON column that should hold a list, on one line whatever a peer put there; None where it holds nothing."""
    return (", ".join(map(str, value)) if isinstance(value, list) else str(value)) if value else None


def cell(value: object, columns: int) -> str:
    """A value cut and padded to a column of a table."""
    text = cut(show("" if value is None else value), columns)
    return text + " " * (columns - width(text))
