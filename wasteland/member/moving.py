"""A hub in a folder that has moved: its new place, for this user's clone of one wasteland."""

from __future__ import annotations

from pathlib import Path

from wasteland.dolt import binary
from wasteland.errors import NotFound, Refused
from wasteland.local.config import Config
from wasteland.node.node import Node

FILE = "file://"


def base_of(config: Config) -> str | None:
    """The folder of the hub; None where the hub is not in a folder."""
    if config.provider_type != "file" or not config.upstream_url.startswith(FILE):
        return None
    return str(Path(config.upstream_url.removeprefix(FILE)).parent.parent)


def move_hub(node: Node, folder: str) -> None:
    """Have the hub in `folder` from now on: every remote of the clone that was in the old one.

    Refused where the hub is not in a folder, NotFound where the wasteland is not in this one.
    """
    config, new = node.config, str(Path(folder).absolute())
    old = base_of(config)
    if old is None:
        raise Refused(f"the hub of {config.upstream} is not in a folder", about=config.upstream)
    binary.fit(Path(new), remote=True)
    if not (Path(new) / config.org / config.db / "manifest").exists():
        raise NotFound(f"there is no wasteland {config.upstream} in {new}", about=new)
    node.db.repoint(f"{FILE}{old}/", f"{FILE}{new}/")
    config.upstream_url = f"{FILE}{new}/{config.upstream}"
    config.save()
