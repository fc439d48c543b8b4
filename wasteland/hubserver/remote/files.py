"""Table files, carried between Dolt and the database server over plain HTTP.

They travel by addresses that the server has sealed: AES-GCM over path and
query, for 15 minutes, with a key that is new at each start.  So an address
is its own authorisation, and is given only to who may read or write the
repository.  The method is not in the seal; but an upload wants a length and
a number of chunks, which the address of a download does not have, and the
address of an upload names no file that could be read.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator

import httpx2
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

ASKED = ("range", "content-type", "content-length")
ANSWERED = ("accept-ranges", "content-range", "content-type", "content-length")
TIMES = {"connect": 10.0, "read": 300.0, "write": 300.0, "pool": 10.0}
# Never used, since the store speaks plain HTTP; but to make one for each transport takes a millisecond.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
log = logging.getLogger(__name__)


async def carried(request: Request, prefix: str, backend: str) -> Response:
    """The server's answer to a GET, POST or PUT of a sealed address; 404 for any other path."""
    path: str = request.scope["path"]
    raw: bytes = request.scope.get("raw_path") or b""
    if request.method not in ("GET", "POST", "PUT"):
        return PlainTextResponse("method not allowed\n", 405, {"allow": "GET, POST, PUT"})
    if not _is_sealed(path, prefix) or not raw.startswith(prefix.encode()):
        return PlainTextResponse("not found\n", 404)
    # Bytes go as they come: a transport, unlike a client, unpacks and follows nothing.
    transport = httpx2.AsyncHTTPTransport(verify=PLAIN, trust_env=False)
    try:
        answer = await transport.handle_async_request(_forwarded(request, raw, backend))
    except (httpx2.TransportError, ClientDisconnect) as error:
        await transport.aclose()
        log.debug("a table file was not carried", exc_info=error)
        return PlainTextResponse("the store does not answer\n", 502)
    except BaseException:
        await transport.aclose()
        raise
    headers = {name: answer.headers[name] for name in ANSWERED if name in answer.headers}
    body = _streamed(answer, transport)
    return StreamingResponse(body, answer.status_code, headers, background=BackgroundTask(transport.aclose))


def _is_sealed(path: str, prefix: str) -> bool:
    return path.startswith(prefix) and not {"", ".", ".."} & set(path.removeprefix(prefix).split("/"))


def _forwarded(request: Request, raw: bytes, backend: str) -> httpx2.Request:
    host, _, port = backend.rpartition(":")
    target = raw + b"?" + request.scope["query_string"]
    return httpx2.Request(
        request.method,
        httpx2.URL(scheme="http", host=host.strip("[]"), port=int(port), raw_path=target),
        headers=[("host", backend), *((name, request.headers[name]) for name in ASKED if name in request.headers)],
        content=None if request.method == "GET" else request.stream(),
        extensions={"timeout": TIMES},
    )


async def _streamed(answer: httpx2.Response, transport: httpx2.AsyncHTTPTransport) -> AsyncIterator[bytes]:
    """The bytes of a file; a store that breaks off shows as an answer that is too short."""
    try:
        async for piece in answer.aiter_raw():
            yield piece
    finally:
        with contextlib.suppress(httpx2.TransportError):
            await answer.aclose()
        await transport.aclose()
