"""`wl hub serve` as a process: from the folder to two open ports, and back to nothing."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wasteland.errors import Misconfigured, Unreachable
from wasteland.hub.addresses import address, loopback
from wasteland.hubserver.server import REMOTE_ACCOUNT

GRACE = 3  # seconds that open requests have at the end


def serve(
    folder: Path,
    listen: str,
    remote_listen: str,
    tls: tuple[Path, Path] | None,
    ready: Callable[[str, str], None],
    public: tuple[str | None, str | None] = (None, None),
) -> None:
    """Serve the hub of a folder until SIGTERM or SIGINT; `ready` is told the two addresses once both answer.

    `public` are the addresses of API and remotes as clients reach them, where
    those are others: behind another server, or by a name.
    """
    for one in (listen, remote_listen):
        host, _ = address(one)
        if tls is None and not loopback(host):
            raise Misconfigured(
                f"without TLS a hub listens on loopback only, not on {host}", about=host,
                hint="give --tls-cert and --tls-key, or listen on 127.0.0.1",
            )  # fmt: skip
    pair = _pair(tls)
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_bound(listen))
        from wasteland.hubserver.app import App
        from wasteland.hubserver.host import Host

        host_of_all = Host(folder)
        stack.callback(host_of_all.stop)
        host_of_all.start()
        app = App(host_of_all)
        api = _url(tls is not None, address(listen)[0], sock.getsockname()[1])
        hosts = [str(urlsplit(url).hostname) for url in public if url]
        port = _proxied(app, remote_listen, public[0] or api, hosts, pair, stack)
        remote = _url(tls is not None, address(remote_listen)[0], port)
        app.remote = public[1] or remote
        _run(app, sock, tls, lambda: ready(api, remote))


def _proxied(
    app: Any, listen: str, api: str, hosts: list[str], tls: tuple[bytes, bytes] | None, stack: contextlib.ExitStack
) -> int:
    """Start the proxy of the remote protocol; its port.  `hosts` are further names that clients know it by."""
    from wasteland.hubserver.remote.proxy import RemoteProxy

    server = app.host.engine.server
    app.proxy = RemoteProxy(
        listen=listen, backend=f"127.0.0.1:{server.remote_port}", backend_user=REMOTE_ACCOUNT,
        backend_password=server.password(REMOTE_ACCOUNT), access=app.host, files_base=api, tls=tls, hosts=hosts,
    )  # fmt: skip
    port: int = app.proxy.start()
    stack.callback(app.proxy.stop)
    return port


def _run(app: Any, sock: socket.socket, tls: tuple[Path, Path] | None, ready: Callable[[], None]) -> None:
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=GRACE, timeout_keep_alive=30, h11_max_incomplete_event_size=64 << 10,
        ssl_certfile=str(tls[0]) if tls else None, ssl_keyfile=str(tls[1]) if tls else None,
    )  # fmt: skip

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        async def on_tick(self, counter: int) -> bool:
            return await super().on_tick(counter) or not databases.alive()

    databases = app.host.engine.server
    server = Server(config)

    def end(*_: object) -> None:
        server.should_exit = True

    # uvicorn raises the signal again when it is done; by then these handlers are back, and the databases must end too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.run(sockets=[sock])
    if not databases.alive():
        raise Unreachable("the database server has ended, so the hub has too", hint="see .hub/server.log")


def _bound(listen: str) -> socket.socket:
    host, port = address(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small answers at once; otherwise each waits 40 ms for the other side.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(256)
    except OSError as error:
        sock.close()
        raise Unreachable(f"cannot listen on {listen}: {error.strerror}", about=listen) from error
    return sock


def _url(tls: bool, host: str, port: int) -> str:
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _pair(tls: tuple[Path, Path] | None) -> tuple[bytes, bytes] | None:
    try:
        return (tls[0].read_bytes(), tls[1].read_bytes()) if tls else None
    except OSError as error:
        raise Misconfigured(f"cannot read {error.filename}: {error.strerror}", about=str(error.filename)) from error
