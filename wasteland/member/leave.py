"""Leave a wasteland."""

from __future__ import annotations

from wasteland.local import config as configuration
from wasteland.local.config import Config, Paths
from wasteland.node.node import Node


def leave(where: Paths, upstream: str | None) -> Config:
    """Forget a wasteland: its configuration goes, clone, key and history stay."""
    config = configuration.load(where, upstream)
    node = Node(config, where)
    if config.clone.exists():
        node.db.server.stop()
    config.path.unlink()
    return config
