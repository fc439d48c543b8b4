"""TLS before the gRPC port: Dolt dials without ALPN, and gRPC's own TLS hangs up on a client without it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import tempfile

PIECE = 65536


def context(certificate: bytes, key: bytes, protocol: str = "h2") -> ssl.SSLContext:
    """A server's context of PEM bytes, which OpenSSL takes from a file only; `protocol` for clients that ask."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols([protocol])
    descriptor, name = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(certificate.rstrip() + b"\n" + key)
        made.load_cert_chain(name)
    finally:
        os.unlink(name)
    return made


async def front(host: str, port: int, tls: ssl.SSLContext, behind: int) -> asyncio.Server:
    """A server that ends TLS and relays the bytes to port `behind` of this machine."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", behind)
        except OSError:
            writer.close()
            return
        await relay((reader, writer), (inner, outer))

    return await asyncio.start_server(answer, host, port, ssl=tls, ssl_handshake_timeout=10)


End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def relay(one: End, other: End) -> None:
    """Carry bytes both ways until either side ends, then close both."""
    ways = [asyncio.create_task(_carry(one[0], other[1])), asyncio.create_task(_carry(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        for _, writer in (one, other):
            writer.close()
        await asyncio.gather(*ways, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
