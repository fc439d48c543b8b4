"""What every command shares: the town it works on, JSON out, and who asks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from gastown.town import Town, find

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON value.")


def open_town(named: str | None) -> Town:
    """The town that the command is about; NotFound."""
    return Town(find(named, os.environ, Path.cwd()))


def show_json(value: dict[str, Any]) -> None:
    """Print one JSON value, escaped to ASCII so that a terminal shows it as it is."""
    click.echo(json.dumps({"schema_version": 1, **value}, indent=2))


def who() -> str:
    """The user of this machine who asks."""
    return f"uid:{os.getuid()}"
