"""A CONNECT proxy that leads hard-wired host names to servers of the test.

A program that knows only DoltHub's names reaches our hub without a change to
it: HTTPS_PROXY names this proxy, SSL_CERT_FILE the authority whose
certificates it shows.  For each name there is a port that ends TLS and goes
on in plain bytes; the proxy itself only splices, and knows no other name.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from wasteland.hubserver.remote import tls as remote_tls

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")


class Authority:
    """An authority made for one test; `file` is its certificate, for SSL_CERT_FILE."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "authority.pem"
        self._made("authority", "-addext", "basicConstraints=critical,CA:TRUE", "-subj", "/CN=an authority of a test")

    def certified(self, host: str) -> tuple[bytes, bytes]:
        """A certificate for a host name, and its key, in PEM."""
        self._made(
            host, "-CA", str(self.file), "-CAkey", str(self.folder / "authority.key"), "-subj", f"/CN={host}",
            "-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip
        return (self.folder / f"{host}.pem").read_bytes(), (self.folder / f"{host}.key").read_bytes()

    def _made(self, name: str, *words: str) -> None:
        key, file = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        done = subprocess.run(
            ["openssl", "req", "-x509", *EC, "-keyout", str(key), "-out", str(file), *words],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Behind:
    """The port of 127.0.0.1 that stands behind a host name, and what is spoken there: `h2` or `http/1.1`."""

    port: int
    protocol: str


@contextlib.contextmanager
def connect_proxy(authority: Authority, routes: Mapping[str, Behind]) -> Iterator[dict[str, str]]:
    """Serve in a thread; the environment in which a program comes here."""
    contexts = {
        host: (remote_tls.context(*authority.certified(host), protocol=behind.protocol), behind.port)
        for host, behind in routes.items()
    }
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def serve() -> None:
        fronts = {host: await remote_tls.front("127.0.0.1", 0, tls, port) for host, (tls, port) in contexts.items()}
        doors = {host: front.sockets[0].getsockname()[1] for host, front in fronts.items()}
        server = await asyncio.start_server(lambda r, w: _answer(r, w, doors), "127.0.0.1", 0)
        ending = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), ending, server.sockets[0].getsockname()[1]))
        await ending.wait()
        for each in (server, *fronts.values()):
            each.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    loop, ending, port = started.result(20)
    try:
        yield {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "SSL_CERT_FILE": str(authority.file)}
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(20)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, doors: Mapping[str, int]) -> None:
    """Splice one CONNECT to the port that ends TLS for its host; 403 for any other."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        verb, _, rest = head.partition(" ")
        host = rest.split(" ")[0].rpartition(":")[0]
        if verb == "CONNECT" and host in doors:
            behind = await asyncio.open_connection("127.0.0.1", doors[host])
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await remote_tls.relay((reader, writer), behind)
        else:
            writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
    writer.close()
