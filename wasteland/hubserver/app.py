"""The HTTP side of a hub: one ASGI application for both generations of the API."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from wasteland.errors import Unauthenticated, WastelandError
from wasteland.hubserver import Holder
from wasteland.hubserver.host import Host
from wasteland.hubserver.remote.proxy import RemoteProxy
from wasteland.hubserver.rest import v1, v2
from wasteland.hubserver.rest.calls import Call, Handler, Reply, find

ROUTES = [*v1.ROUTES, *v2.ROUTES]
KEY_ROUTES = (v2.keys, v2.add_key, v2.remove_key)
STALE = (v1.read, v1.list_pulls, v1.get_pull, v2.read, v2.list_pulls, v2.get_pull)
LARGEST = 4 << 20  # bytes of a body
WRITES = ("POST", "PATCH", "PUT", "DELETE")
log = logging.getLogger(__name__)
ABOUT = "/.well-known/wasteland-hub"


class App:
    """What uvicorn calls."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.proxy: RemoteProxy | None = None
        self.remote = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive, send)
        response: Response | None
        if self.proxy is not None and scope["path"].startswith(self.proxy.PREFIX):
            response = await self.proxy.files(request)
        else:
            try:
                response = await self._answer(request)
            except ClientDisconnect:
                return
        if response is None:
            # For the fault `drop_after`: uvicorn's `send` is a method of what holds the connection.
            cycle: Any = getattr(send, "__self__", None)
            cycle.transport.abort()
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response | None:
        """The response, after the faults that strike before and after it; None for no response at all."""
        faults = self.host.faults
        path = request.scope.get("raw_path", b"").decode("ascii", "replace").partition("?")[0]
        failure = v2.failure if path.startswith(v2.BASE) else v1.failure
        body = await _body(request)
        if body is None:
            return _response(v2.problem(413, "VALIDATION_FAILED", "the body is too large"))
        if delay := faults.number("delay"):
            await asyncio.sleep(delay)
        if faults.due("rate_limit"):
            reply = v2.problem(429, "RATE_LIMITED", "too many requests")
            reply.headers["retry-after"] = "1"
            return _response(reply)
        if faults.due("error_before"):
            return _response(v2.problem(500, "INTERNAL", "internal error"))
        reply = await run_in_threadpool(self._handled, request, path, body, failure)
        if request.method in WRITES:
            if faults.due("drop_after"):
                return None
            if faults.due("error_after"):
                return _response(v2.problem(500, "INTERNAL", "internal error"))
        return _response(reply)

    def _handled(self, request: Request, path: str, body: bytes, failure: Any) -> Reply:
        if path == ABOUT:
            keys = not self.host.faults.on("no_keys")
            return Reply(200, {"hub": "wl", "remote": self.remote, "versions": ["v2", "v1alpha1"], "keys": keys})
        handler, named, known = find(ROUTES, request.method, path)
        if handler in KEY_ROUTES and self.host.faults.on("no_keys"):
            handler, known = None, False
        if handler is None:
            status, code = (405, "METHOD_NOT_ALLOWED") if known else (404, "NOT_FOUND")
            return v2.problem(status, code, "there is no such route")
        try:
            holder = self._holder(request, path)
            call = Call(self.host, request.method, named, dict(request.query_params), body, holder)
            return self._called(call, handler, path, str(request.url.query))
        except WastelandError as error:
            return failure(error)  # type: ignore[no-any-return]
        except Exception as error:
            log.exception("a request failed")
            return failure(WastelandError(f"internal error: {type(error).__name__}"))  # type: ignore[no-any-return]

    def _called(self, call: Call, handler: Handler, path: str, query: str) -> Reply:
        """The handler's answer, or an earlier one where the fault `stale` says so."""
        if call.method != "GET" or handler not in STALE:
            return handler(call)
        key = (path, query, call.holder.user if call.holder else "")
        kept = self.host.faults.kept(key)
        if kept is not None:
            return kept  # type: ignore[no-any-return]
        reply = handler(call)
        self.host.faults.keep(key, reply)
        return reply

    def _holder(self, request: Request, path: str) -> Holder | None:
        """Who asks; Unauthenticated for a token that is not good, None where there is no token."""
        header = request.headers.get("authorization")
        if header is None:
            return None
        scheme, _, token = header.strip().rpartition(" ")
        wanted = ("Bearer",) if path.startswith(v2.BASE) else ("token",)
        if self.host.faults.on("token_header_case"):
            good = scheme in wanted
        else:
            good = scheme.strip().lower() in ("", "token", "bearer")
        holder = self.host.whose_token(token) if good else None
        if holder is None:
            raise Unauthenticated("the token is not valid")
        return holder


async def _body(request: Request) -> bytes | None:
    """The body, or None where it is too large."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            return None
        parts.append(part)
    return b"".join(parts)


def _response(reply: Reply) -> Response:
    headers = {"cache-control": "no-store", **reply.headers}
    return JSONResponse(reply.body, status_code=reply.status, headers=headers, media_type=headers.get("content-type"))
