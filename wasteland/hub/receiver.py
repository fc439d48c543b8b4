"""A small receiver of webhooks: it checks who sends, and says that something has happened.

What a webhook says is never read: it only makes the watch look by itself.
Ours come with `X-Wasteland-Signature: sha256=<hmac of the body>`; for others,
which have no signature, the secret is a part of the path: `/hook/<secret>`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from wasteland.errors import Misconfigured, Unreachable
from wasteland.hub.addresses import address, loopback

LIMIT = 1 << 20  # bytes of a body
AT_ONCE = 8  # connections; more are closed at once
PATIENCE = 10.0  # seconds for a whole request
SHORTEST = 16  # characters of a secret


def secret_of(path: Path) -> str:
    """The secret in a file that only its owner may read; Misconfigured where it is not one."""
    try:
        text, mode = path.read_text().strip(), path.stat().st_mode
    except (OSError, ValueError) as error:
        raise Misconfigured(f"cannot read {path}: {error}", about=str(path)) from error
    if mode & 0o077:
        raise Misconfigured(f"others may read {path}", about=str(path), hint=f"chmod 600 {path}")
    if len(text) < SHORTEST or not (text.isascii() and text.isprintable()) or "/" in text or " " in text:
        raise Misconfigured(
            f"{path} must hold one secret: {SHORTEST} or more ASCII characters, no '/' and no space", about=str(path)
        )
    return text


def genuine(secret: str, path: str, signature: str | None, body: bytes) -> bool:
    """Whether who sent this knows the secret; a signature that does not hold is not made good by the path."""
    if signature is not None:
        made = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(made.encode(), signature.strip().encode("utf-8", "replace"))
    given = unquote(path.partition("?")[0], errors="replace").encode("utf-8", "replace")
    return hmac.compare_digest(f"/hook/{secret}".encode(), given)


@contextlib.contextmanager
def listening(listen: str, secret: str, heard: Callable[[], None]) -> Iterator[str]:
    """Listen while the block runs, and give the address; `heard` is called after each genuine webhook.

    Misconfigured for an address that other machines reach: there is no TLS here.
    """
    host, port = address(listen)
    if not loopback(host):
        raise Misconfigured(
            f"webhooks are received on loopback only, not on {host}", about="listen",
            hint="listen on 127.0.0.1 and put a web server with TLS before it",
        )  # fmt: skip
    try:
        server = _Receiver(host, port, secret, heard)
    except OSError as error:
        raise Unreachable(f"cannot listen on {listen}: {error.strerror}", about=listen) from error
    thread = threading.Thread(target=server.serve_forever, name="webhooks", daemon=True)
    thread.start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Receiver(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, secret: str, heard: Callable[[], None]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.secret = secret
        self.heard = heard
        self._places = threading.BoundedSemaphore(AT_ONCE)
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would ask the name service for its own name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # A sender that trickles never lets a read time out; the clock ends the whole connection.
        clock = threading.Timer(PATIENCE, _hang_up, (request,))
        clock.daemon = True
        clock.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            clock.cancel()
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that went away is no news."""


def _hang_up(request: Any) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver
    timeout = PATIENCE
    server_version, sys_version = "wl", ""

    def do_POST(self) -> None:
        size = self.headers.get("content-length", "")
        if not (size.isascii() and size.isdigit()) or self.headers.get("transfer-encoding"):
            self._answer(411)
            return
        if len(size) > 9 or int(size) > LIMIT:
            self._answer(413)
            return
        body = self.rfile.read(int(size))
        if len(body) != int(size):
            self._answer(400)
        elif genuine(self.server.secret, self.path, self.headers.get("x-wasteland-signature"), body):
            self._answer(204)
            self.server.heard()
        else:
            self._answer(401)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        # What is no POST is 501 to the library.
        self._answer(405 if code == 501 else code)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the path may hold the secret."""

    def _answer(self, code: int) -> None:
        self.close_connection = True
        self.send_response(code)
        self.send_header("content-length", "0")
        self.end_headers()
