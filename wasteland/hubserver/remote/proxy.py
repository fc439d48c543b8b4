"""The Dolt remote of every repository of the hub: a gRPC proxy before the database server's own.

Dolt's server knows one right for all its databases: who may push, pushes
everywhere.  So it listens to one account, the proxy's, and the proxy asks
`Access` for each call who calls, which database `owner/repo` is, and whether
it may be read or written.  A push replaces the root of the whole database at
once, with all branches and tags in it: rights are per repository, and there
can be none per branch.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Collection
from concurrent.futures import Future
from typing import Any, NoReturn
from urllib.parse import urlsplit

import grpc
import grpc.aio
from starlette.requests import Request
from starlette.responses import Response

from wasteland.errors import NotFound, Refused, Unauthenticated, Unreachable, Usage, WastelandError
from wasteland.hubserver import Access, Holder
from wasteland.hubserver.remote import auth, files, wire
from wasteland.hubserver.remote import tls as remote_tls
from wasteland.hubserver.remote.wire import CREDENTIALS, METHODS, SERVICE, Method
from wasteland.text import org_db, show

# Dolt takes answers of 128 MB.  Its requests are some hundred KB; what a stranger may fill our memory with is less.
ANSWER_LIMIT, REQUEST_LIMIT = 128 * 1024 * 1024, 16 * 1024 * 1024
MOST_CALLS = 256
# A stream asks for its rights once; so none may last for ever.  Dolt opens another where one ends.
LONGEST_CALL = 3600.0
# Dolt closes a stream that it has no use for after 15 seconds.
LONGEST_PAUSE = 60.0
WILDCARDS = ("", "0.0.0.0", "::")  # noqa: S104 - names that are no audience, not an address to bind
CODES = (
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Refused, grpc.StatusCode.PERMISSION_DENIED),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (Usage, grpc.StatusCode.INVALID_ARGUMENT),
    (Unreachable, grpc.StatusCode.UNAVAILABLE),
)

Context = grpc.aio.ServicerContext[bytes, bytes]
log = logging.getLogger(__name__)


class RemoteProxy:
    """Clone, fetch and push of `http(s)://host:port/<owner>/<repo>` for an unmodified `dolt`.

    `listen` is where gRPC is served, with TLS where `tls` is a certificate and
    its key in PEM; `backend` is host:port of the server's remotesapi, which
    must be reachable from here only.  `files_base` is the public address of
    the HTTP server that has `files` mounted below PREFIX.  `hosts` are further
    names by which clients dial this proxy: tokens of `dolt creds` hold for
    these, for the host of `files_base` and for that of `listen`.
    """

    PREFIX = "/single_symmetric_key_sealed_request/"

    def __init__(
        self,
        *,
        listen: str,
        backend: str,
        backend_user: str,
        backend_password: str,
        access: Access,
        files_base: str,
        tls: tuple[bytes, bytes] | None = None,
        hosts: Collection[str] = (),
    ) -> None:
        self.listen, self.backend, self.access = listen, backend, access
        self.files_base = files_base.rstrip("/")
        here = {urlsplit(self.files_base).hostname or "", urlsplit(f"//{listen}").hostname or ""}
        self.audiences = frozenset(host.lower() for host in here | set(hosts)) - set(WILDCARDS)
        # The server reads base64 of the kind for URLs, and takes the password up to its first colon.
        pair = base64.urlsafe_b64encode(f"{backend_user}:{backend_password}".encode()).decode()
        self._account = (("authorization", f"Basic {pair}"),)
        self._tls = remote_tls.context(*tls) if tls else None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._ending: asyncio.Event
        self._channel: grpc.aio.Channel

    def start(self) -> int:
        """Serve in a thread of its own; the port.  Unreachable where `listen` cannot be had."""
        started: Future[int] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="dolt-remote", daemon=True
        )
        self._thread.start()
        return started.result(30)

    def stop(self) -> None:
        """End all calls and wait for the thread."""
        thread, self._thread = self._thread, None
        if thread is not None and thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            thread.join(30)

    async def _serve(self, started: Future[int]) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self._channel = grpc.aio.insecure_channel(self.backend, options=_limits(ANSWER_LIMIT, REQUEST_LIMIT))
        options = [*_limits(REQUEST_LIMIT, ANSWER_LIMIT), ("grpc.so_reuseport", 0)]
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MOST_CALLS)
        server.add_generic_rpc_handlers((_Service(self),))
        front = None
        try:
            port = server.add_insecure_port("127.0.0.1:0" if self._tls else self.listen)
            await server.start()
            if self._tls:
                asked = urlsplit(f"//{self.listen}")
                front = await remote_tls.front(asked.hostname or "", asked.port or 0, self._tls, port)
                port = front.sockets[0].getsockname()[1]
        except (RuntimeError, OSError, ValueError) as error:
            started.set_exception(Unreachable(f"nothing can be served at {self.listen}", about=self.listen))
            log.debug("the proxy did not start", exc_info=error)
        else:
            started.set_result(port)
            await self._ending.wait()
        if front:
            front.close()
        await server.stop(1.0)
        await self._channel.close()

    async def one(self, method: Method, message: bytes, context: Context) -> bytes:
        """Answer a call of one message."""
        try:
            holder = await self._caller(context)
            owner, repo, request = await self._asked(method, message, holder, {})
            if not method.writes:
                return await self._sent(method, request, _seconds(context))
            # A push that the store may have taken is followed to its end, though the client goes.
            return await asyncio.shield(asyncio.create_task(self._written(method, request, owner, repo, holder)))
        except Exception as error:
            return await _refuse(context, error)

    async def stream(self, method: Method, messages: AsyncIterator[bytes], context: Context) -> None:
        """Answer a stream: in this protocol, each message has exactly one answer, in order."""
        call = None
        known: dict[str, str] = {}
        try:
            holder = await self._caller(context)
            async for message in _lively(messages):
                _, _, request = await self._asked(method, message, holder, known)
                if call is None:
                    call = self._opened(method, _seconds(context))
                await call.write(request)
                answer = await call.read()
                if not isinstance(answer, bytes):
                    raise Unreachable("the store ended the stream")
                await context.write(self._readdressed(method, answer))
            if call is not None:
                await call.done_writing()
        except Exception as error:
            await _refuse(context, error)
        finally:
            if call is not None:
                call.cancel()

    async def who_am_i(self, message: bytes, context: Context) -> bytes:
        """Answer `dolt login` and `dolt creds check`: whose credentials these are."""
        try:
            holder = await self._caller(context)
            if holder is None:
                raise Unauthenticated("there are no credentials")
            return wire.encoded(1, holder.user.encode()) + wire.encoded(2, holder.user.encode())
        except Exception as error:
            return await _refuse(context, error)

    async def _caller(self, context: Context) -> Holder | None:
        sent = [str(value) for name, value in context.invocation_metadata() or () if name == "authorization"]
        if not sent:
            return None
        return await asyncio.to_thread(auth.caller, sent, self.access, self.audiences, time.time())

    async def _asked(
        self, method: Method, message: bytes, holder: Holder | None, known: dict[str, str]
    ) -> tuple[str, str, bytes]:
        """Owner, repository, and the request as the store may have it; `known` is what this stream has asked for."""
        request = wire.opened(method, message)
        owner, repo = org_db(request.repository)
        if method.writes and holder is None:
            raise Unauthenticated("a push needs a user", hint="dolt push --user NAME, or dolt creds")
        if method.writes and holder is not None and not holder.may_write:
            raise Refused("this token may only read")
        if request.repository not in known:
            known[request.repository] = await asyncio.to_thread(
                self.access.resolve, owner, repo, holder, write=method.writes
            )
        return owner, repo, request.named(method, known[request.repository])

    def _opened(self, method: Method, seconds: float) -> grpc.aio.StreamStreamCall[bytes, bytes]:
        made: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        made = self._channel.stream_stream(f"/{SERVICE}/{method.name}")
        return made(timeout=seconds, metadata=self._account)

    async def _sent(self, method: Method, request: bytes, seconds: float) -> bytes:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = self._channel.unary_unary(f"/{SERVICE}/{method.name}")
        answer = await call(request, timeout=seconds, metadata=self._account)
        return self._readdressed(method, answer)

    async def _written(self, method: Method, request: bytes, owner: str, repo: str, holder: Holder | None) -> bytes:
        """The answer to a write; after a commit that has moved the root, `Access` is told."""
        answer = await self._sent(method, request, LONGEST_CALL)
        if method.name == "Commit" and wire.succeeded(answer):
            try:
                await asyncio.to_thread(self.access.pushed, owner, repo, holder.user if holder else None)
            except Exception:  # the push has happened, whatever comes of the news
                log.exception("the push to %s/%s could not be told", owner, repo)
        return answer

    def _readdressed(self, method: Method, answer: bytes) -> bytes:
        if method.once:
            answer = wire.distinct(answer)
        return wire.readdressed(answer, method.answer, self._public)

    def _public(self, address: str) -> str:
        """A sealed address below `files_base`: the store names itself, with `http` even behind TLS."""
        parts = urlsplit(address)
        if not parts.path.startswith(self.PREFIX):
            raise WastelandError("the store gave an address that is not sealed")
        return f"{self.files_base}{parts.path}?{parts.query}"

    async def files(self, request: Request) -> Response:
        """Carry one table file from or to the store; nothing else of it can be reached here."""
        return await files.carried(request, self.PREFIX, self.backend)


class _Service(grpc.GenericRpcHandler):
    """The methods that there are; gRPC itself answers that another is not implemented."""

    def __init__(self, proxy: RemoteProxy) -> None:
        self.proxy = proxy

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        service, _, name = details.method.lstrip("/").partition("/")
        if service == CREDENTIALS and name == "WhoAmI":
            return grpc.unary_unary_rpc_method_handler(self.proxy.who_am_i)
        method = METHODS.get(name) if service == SERVICE else None
        if method is None:
            return None

        async def one(message: bytes, context: Context) -> bytes:
            return await self.proxy.one(method, message, context)

        async def stream(messages: AsyncIterator[bytes], context: Context) -> None:
            await self.proxy.stream(method, messages, context)

        if method.streams:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(one)


async def _lively(messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The messages of a stream, as long as they keep coming."""
    with contextlib.suppress(StopAsyncIteration):
        while True:
            async with asyncio.timeout(LONGEST_PAUSE):
                message = await anext(messages)
            yield message


def _limits(received: int, sent: int) -> list[tuple[str, Any]]:
    return [("grpc.max_receive_message_length", received), ("grpc.max_send_message_length", sent)]


def _seconds(context: Context) -> float:
    """How long the store may take: as long as the client waits, or the longest."""
    left = context.time_remaining()
    return LONGEST_CALL if left is None else min(left, LONGEST_CALL)


async def _refuse(context: Context, error: Exception) -> NoReturn:
    """End the call with the code and the words for an error; of the store's own, only what is the caller's matter."""
    if isinstance(error, grpc.aio.AioRpcError):
        code = error.code()
        log.warning("the store answered %s: %s", code.name, show(error.details()))
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            code = grpc.StatusCode.INTERNAL  # it refuses the hub's own account, not the caller's
        await context.abort(code, f"the store answered {code.name}")
    if isinstance(error, WastelandError):
        code = next((code for kind, code in CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
        await context.abort(code, f"{error.message} ({error.hint})" if error.hint else error.message)
    if isinstance(error, asyncio.InvalidStateError):
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the store ended the stream")
    if isinstance(error, TimeoutError):
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "nothing more came")
    log.error("a call to the Dolt remote failed", exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "the hub failed; its log says why")
