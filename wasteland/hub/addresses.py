"""Addresses to listen on, as both sides of a hub read them."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from wasteland.errors import Usage


def address(listen: str) -> tuple[str, int]:
    """HOST:PORT, or [IPV6]:PORT, in its parts; Usage where it is neither."""
    try:
        parts = urlsplit(f"//{listen}")
        if parts.hostname and parts.port is not None and not parts.path and not parts.username:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise Usage("an address to listen on is HOST:PORT", about="listen")


def loopback(host: str) -> bool:
    """Whether only this machine can reach a host's name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
