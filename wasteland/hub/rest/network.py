"""The way to a host: through which proxy, and which certificates are believed.

Both come from the environment, as for other programs.  What is wrong there is
named with its variable before a request fails for a reason that nobody sees.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from wasteland.errors import Misconfigured
from wasteland.hub.addresses import loopback
from wasteland.text import masked, show

SCHEMES = ("http", "https")  # of proxies; SOCKS is spoken neither here nor by Dolt


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL; None for none, and always for this machine's own addresses.

    `https_proxy` or `http_proxy` by the URL's scheme, else `all_proxy`; a small name goes before a capital one.
    Misconfigured, with the variable's name, for a value that is no address of an HTTP proxy.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if loopback(host) or _excepted(host, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)):
        return None
    for name in (f"{parts.scheme}_proxy", f"{parts.scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
        if value := os.environ.get(name, "").strip():
            return _proxy(name, value)
    return None


def _proxy(name: str, value: str) -> str:
    address = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(address)
        good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, good = urlsplit(""), False
    if parts.scheme.startswith("socks"):
        raise Misconfigured(
            f"{name} names a SOCKS proxy, which neither wl nor Dolt can use",
            about=name, hint=f"set HTTPS_PROXY to an HTTP proxy, or run the command with {name}= in front of it",
        )  # fmt: skip
    if not good or parts.scheme not in SCHEMES:
        raise Misconfigured(f"{name} is not the address of a proxy: {masked(show(value))[:100]}", about=name)
    return address


def _excepted(host: str, port: int) -> bool:
    """Whether `no_proxy` names a host: itself, its domain, a network of addresses or `*`; each perhaps with a port."""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in (part.strip().lower() for part in listed.split(",")):
        name, colon, number = entry.rpartition(":")
        if colon and number.isdigit() and (":" not in name or name.startswith("[")):
            if int(number) != port:
                continue
            entry = name
        entry = entry.strip("[]")
        if entry == "*":
            return True
        if address is not None:
            try:
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
            except ValueError:
                continue
        elif entry and (host == entry.lstrip("*.") or host.endswith("." + entry.lstrip("*."))):
            return True
    return False


def trust(url: str) -> ssl.SSLContext:
    """The certificates that are believed: those of SSL_CERT_FILE or SSL_CERT_DIR, else the well-known ones.

    For a plain http URL none are, so that a way that turns out to be TLS is
    refused.  Misconfigured, with the variable's name, where it names nothing usable.
    """
    if urlsplit(url).scheme != "https":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if folder and not file and not Path(folder).is_dir():
        raise Misconfigured(f"SSL_CERT_DIR names {show(folder)}, which is not a folder", about="SSL_CERT_DIR")
    try:
        if file or folder:
            return ssl.create_default_context(cafile=file or None, capath=None if file else folder)
        import httpx2

        return httpx2.create_ssl_context(trust_env=False)
    except OSError as error:  # of which ssl.SSLError is a kind: a file that holds no certificates
        if not file:
            raise
        raise Misconfigured(
            f"SSL_CERT_FILE names {show(file)}, which holds no certificates that can be read: "
            f"{error.strerror or error}", about="SSL_CERT_FILE",
        ) from error  # fmt: skip
