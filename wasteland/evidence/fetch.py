"""The one HTTP getter for evidence: what strangers' addresses may make this machine ask.

An address must be https, on a host of the allow list, named by its name.  The
name is looked up once; every address that it has must be a public one, and the
connection goes to what was checked, so that a second answer of the resolver
changes nothing.  Redirects stay on the host.  Size and time are limited as a
whole.  No cookies, no credentials, no proxy: what a proxy would resolve, this
program could not check.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from wasteland.errors import Refused, Unreachable, Usage
from wasteland.text import show
from wasteland.values import dataclass

if TYPE_CHECKING:
    import ssl

    import httpx2

Address = IPv4Address | IPv6Address

SETTING = "evidence-hosts"
HOSTS = frozenset({
    "github.com", "raw.githubusercontent.com", "gist.githubusercontent.com", "gitlab.com", "codeberg.org",
    "bitbucket.org", "git.sr.ht", "www.dolthub.com",
})  # fmt: skip
LIMIT = 10 << 20  # bytes
SECONDS = 30.0
CONNECT = 10.0
REDIRECTS = 5
ADDRESSES = 3  # are tried, of those that a name has
URL_LIMIT = 2000

PARTS = re.compile(r"https://([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?(/[!-~]*|\?[!-~]*|#[!-~]*)?\Z", re.IGNORECASE)
NAME = re.compile(r"(?=.{4,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])\Z")
NAT64 = "64:ff9b::/96"
GLOBAL = "2000::/3"
# Parts of 2000::/3 that stand for something else: Teredo and its neighbours, 6to4, documentation.
SPECIAL = ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")


def resolve(host: str, port: int) -> list[str]:
    """The addresses that the machine's resolver gives for a host; Unreachable where it gives none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"the host {host} was not found", about=host) from error
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def public(address: Address) -> bool:
    """Whether an address is one of the internet's: not of this machine, this network, or a way into either."""
    if isinstance(address, IPv6Address):
        if address in IPv6Network(NAT64):
            return public(IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in IPv6Network(GLOBAL) or any(address in IPv6Network(part) for part in SPECIAL):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


@dataclass(frozen=True)
class Reach:
    """What may be asked for, and how it is found; the defaults are what users get.

    `hosts` holds names, or `name:port` for another port than 443.
    """

    hosts: frozenset[str] = HOSTS
    resolve: Callable[[str, int], list[str]] = resolve
    allowed: Callable[[Address], bool] = public
    cafile: Path | None = None
    limit: int = LIMIT
    seconds: float = SECONDS


@dataclass(frozen=True)
class Target:
    """An address after all checks: host, port, what to ask it for, and where it is."""

    host: str
    port: int
    path: str
    addresses: tuple[str, ...]

    @property
    def url(self) -> str:
        """The address as it may be shown."""
        return f"https://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """The host, with its port where that is not the usual one."""
        return self.host if self.port == 443 else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """What an address said in the end; `url` is where that was, `pin` is `host:port:address` of it."""

    url: str
    status: int
    pin: str
    media_type: str | None = None
    body: bytes = field(default=b"", repr=False)


def hosts_of(text: str) -> frozenset[str]:
    """The hosts of a setting, between commas; Usage where one is no host name (or `name:port`)."""
    found = frozenset(word for part in text.split(",") if (word := part.strip().lower()))
    for word in found:
        name, colon, port = word.partition(":")
        if not NAME.match(name) or (colon and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65536)):
            raise Usage(f"invalid host {show(word)!r}: give names such as git.example.org", about=SETTING)
    return found


def split(url: str) -> tuple[str, int, str]:
    """Host, port and path of an https URL; Refused with the reason where it may not be fetched."""
    if len(url) > URL_LIMIT:
        raise Refused(f"an address of {len(url)} characters is not fetched")
    if not url.lower().startswith("https://"):
        raise Refused(f"only https is fetched, and this is not: {show(url)}", about=show(url))
    found = PARTS.match(url)
    if found is None and "@" in re.split(r"[/?#]", url[8:], maxsplit=1)[0]:
        raise Refused("an address with a user name or password in it is not fetched")
    if found is None:
        raise Refused(f"this is not an address that is fetched: {show(url)}", about=show(url))
    host, port = found[1].lower(), int(found[2] or 443)
    if not NAME.match(host) or not 0 < port < 65536:
        raise Refused(f"{show(host)} is not the name of a host; addresses in numbers are not fetched", about=host)
    path = (found[3] or "/").partition("#")[0]
    return host, port, path if path.startswith("/") else f"/{path}"


def allows(url: str, hosts: Collection[str]) -> bool:
    """Whether a URL is one that may be fetched, as far as its words tell."""
    try:
        host, port, _ = split(url)
    except Refused:
        return False
    return _listed(host, port, hosts)


def _listed(host: str, port: int, hosts: Collection[str]) -> bool:
    return f"{host}:{port}" in hosts or (port == 443 and host in hosts)


def _target(url: str, reach: Reach) -> Target:
    host, port, path = split(url)
    where = host if port == 443 else f"{host}:{port}"
    if not _listed(host, port, reach.hosts):
        raise Refused(
            f"{where} is not one of the hosts that evidence is fetched from",
            about=where,
            hint=f"wl config set {SETTING} {where}, if you trust that host",
        )
    addresses = reach.resolve(host, port)
    if not addresses:
        raise Unreachable(f"the host {host} was not found", about=host)
    for one in addresses:
        if not _may(one, reach):
            raise Refused(f"{host} is at {show(one)}, which is not an address of the internet", about=host)
    return Target(host, port, path, tuple(addresses[:ADDRESSES]))


def _may(address: str, reach: Reach) -> bool:
    try:
        return reach.allowed(ip_address(address))
    except ValueError:  # with a scope, or no address at all
        return False


def get(url: str, reach: Reach) -> Answer:
    """What an address answers, whatever its status.

    Refused for what the rules forbid (host, address, redirect, size),
    Unreachable for what did not answer, or not in time.
    """
    return _ask(url, reach, read=True)


def probe(url: str, reach: Reach, headers: Mapping[str, str] | None = None) -> Answer:
    """As `get`, but only the status is waited for; the body is left unread."""
    return _ask(url, reach, read=False, headers=headers)


def _ask(url: str, reach: Reach, *, read: bool, headers: Mapping[str, str] | None = None) -> Answer:
    import ssl

    from wasteland.hub.rest.network import trust as believed

    target = _target(url, reach)
    deadline = time.monotonic() + reach.seconds
    trust = believed(url) if reach.cafile is None else ssl.create_default_context(cafile=reach.cafile)
    for _ in range(REDIRECTS + 1):
        answer, moved = _once(target, reach, deadline, trust, headers or {}, read=read)
        if moved is None:
            return answer
        target = _moved(target, moved)
    raise Refused(f"{target.host} redirects more than {REDIRECTS} times", about=target.host)


def _moved(target: Target, location: str) -> Target:
    """Where a redirect leads: the addresses that were checked stay, so it must be the same host and port."""
    try:
        to = urljoin(target.url, location)
    except ValueError as error:
        raise Refused(f"{target.host} redirects to what is no address", about=target.host) from error
    host, port, path = split(to)
    if (host, port) != (target.host, target.port):
        raise Refused(
            f"{target.host} redirects to another host, {host}, which is not followed",
            about=target.host,
            hint="name the address that it leads to",
        )
    return Target(host, port, path, target.addresses)


def _once(
    target: Target, reach: Reach, deadline: float, trust: ssl.SSLContext, headers: Mapping[str, str], *, read: bool
) -> tuple[Answer, str | None]:
    """One request, to the first of the addresses that takes a connection; the answer, or where it redirects to."""
    import httpx2

    failed: Exception | None = None
    for address in target.addresses:
        try:
            with _response(target, address, deadline, trust, headers) as response:
                location = response.headers.get("location") if response.is_redirect else None
                body = _body(response, reach.limit, deadline, target.host) if read and location is None else b""
                pin = f"{target.host}:{target.port}:{address}"
                return Answer(target.url, response.status_code, pin, _media_type(response), body), location
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            failed = error
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise _silent(target.host, deadline) from error
    raise _silent(target.host, deadline) from failed


def _silent(host: str, deadline: float) -> Unreachable:
    why = "did not answer in time" if time.monotonic() >= deadline else "did not answer"
    return Unreachable(f"{host} {why}", about=host)


@contextlib.contextmanager
def _response(
    target: Target, address: str, deadline: float, trust: ssl.SSLContext, headers: Mapping[str, str]
) -> Iterator[httpx2.Response]:
    """The answer's head, asked at `address` under the target's own name; everything closed at the end."""
    import httpx2

    left = deadline - time.monotonic()
    if left <= 0:
        raise _silent(target.host, deadline)
    bracketed = f"[{address}]" if ":" in address else address
    with (
        httpx2.Client(
            transport=httpx2.HTTPTransport(verify=trust, trust_env=False, retries=0),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(min(left, CONNECT)),
        ) as client,
        _cut_off(left) as opened,
    ):
        request = client.build_request(
            "GET",
            f"https://{bracketed}:{target.port}{target.path}",
            headers={
                "Host": target.authority, "User-Agent": "wl", "Accept": "*/*", "Accept-Encoding": "identity",
                "Connection": "close", **headers,
            },
            extensions={"sni_hostname": target.host, "trace": opened},
        )  # fmt: skip
        response = client.send(request, stream=True)
        try:
            yield response
        finally:
            response.close()


@contextlib.contextmanager
def _cut_off(seconds: float) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Shut the connection down after `seconds`, however slowly bytes drip: httpx2 limits single reads only."""
    sockets: list[socket.socket] = []

    def opened(event: str, info: dict[str, Any]) -> None:
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            sockets[:] = [info["return_value"].get_extra_info("socket")]

    def shut() -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)  # not TLS's own, which would wait for the other side

    timer = threading.Timer(seconds, shut)
    timer.daemon = True
    timer.start()
    try:
        yield opened
    finally:
        timer.cancel()
        timer.join()


def _body(response: httpx2.Response, limit: int, deadline: float, host: str) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(f"{host} sends its answer compressed, which was not asked for", about=host)
    size = response.headers.get("content-length", "")
    found = bytearray()
    if not (size.isdecimal() and int(size[:20]) > limit):
        for chunk in response.iter_raw():
            found += chunk
            if len(found) > limit:
                break
            if time.monotonic() >= deadline:
                raise _silent(host, deadline)
        else:
            return bytes(found)
    raise Refused(f"what {host} sends is larger than {limit} bytes", about=host)


def _media_type(response: httpx2.Response) -> str | None:
    found = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
    return found or None
