"""A code host of our own: TLS on this machine, under a name that only the test's resolver knows."""

from __future__ import annotations

import datetime
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from wasteland.evidence.fetch import Reach

HOST = "evidence.example"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for HOST that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return cert, secret


class Site:
    """What the host serves: `pages` by path (status, headers, body), and repositories under `folder`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.drip = 0.0  # seconds between single bytes
        self.slow_head = 0.0  # seconds between bytes of a head that does not end
        self.looked_up: list[str] = []
        self.addresses = [["127.0.0.1"]]  # answers of the resolver, in turn; the last one stays

    def url(self, path: str) -> str:
        return f"https://{HOST}:{self.port}{path}"

    def resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        return self.addresses.pop(0) if len(self.addresses) > 1 else self.addresses[0]

    def reach(self, **changes: Any) -> Reach:
        """What a test may reach: this host, at 127.0.0.1 and nowhere else."""
        told: dict[str, Any] = {
            "hosts": frozenset({f"{HOST}:{self.port}"}), "resolve": self.resolve,
            "allowed": lambda address: address == ip_address("127.0.0.1"), "cafile": self.folder / "cert.pem",
        }  # fmt: skip
        return Reach(**told | changes)


class Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site = self.site
        site.asked.append((self.path, dict(self.headers)))
        if site.slow_head:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            for _ in range(60):
                self.wfile.write(b"x")
                time.sleep(site.slow_head)
        if ".git" in self.path:
            self._git(b"")
            return
        status, headers, body = site.pages.get(self.path, (404, {}, b"not here"))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if site.drip:
            for at in range(len(body)):
                self.wfile.write(body[at : at + 1])
                self.wfile.flush()
                time.sleep(site.drip)
        else:
            self.wfile.write(body)

    def do_POST(self) -> None:
        self.site.asked.append((self.path, dict(self.headers)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            given = b""
            while size := int(self.rfile.readline(), 16):
                given += self.rfile.read(size)
                self.rfile.readline()
        else:
            given = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._git(given)

    def _git(self, given: bytes) -> None:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.site.folder), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "HOME": "/nonexistent",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(given)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "REMOTE_ADDR": "127.0.0.1",
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], env=env, input=given, capture_output=True, check=False)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in (fields | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # clients hang up on purpose


@contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """The host, while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    cert, secret = certificate(folder)
    handler = type("Bound", (Handler,), {})
    server = Server(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, secret)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site = handler.site = Site(folder, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
