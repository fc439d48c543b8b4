"""The Dolt remote of our hub, met by calls made by hand: what does not hold is refused, and nothing is told of it."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import time
from collections.abc import Iterator

import grpc
import httpx2
import pytest

from tests.hubserver.remote_place import (
    Credential,
    Place,
    call,
    free_port,
    new_key,
)
from wasteland.errors import Unreachable, Usage
from wasteland.hubserver.remote import proxy as remote
from wasteland.hubserver.remote.proxy import RemoteProxy
from wasteland.hubserver.remote.wire import METHODS, SERVICE, encoded, fields, opened, readdressed, succeeded
from wasteland.local.keys import Key


def jwt(key: Credential, *, sign: Credential | None = None, header: dict | None = None, **claims) -> str:
    """A token as Dolt makes it, but for what is changed in it."""

    def part(value) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    body = {"aud": ["127.0.0.1"], "iss": "dolt-client.dolthub.com", "sub": f"doltClientCredentials/{key.id}",
            "exp": time.time() + 30, **claims}  # fmt: skip
    text = f"{part({'alg': 'EdDSA', 'kid': key.id, **(header or {})})}.{part(body)}"
    by = sign or key
    signature = Key("x", "", by.public, "", by.seed).sign(text.encode())
    return f"Bearer {text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def refusal(place: Place, *words, **more) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        call(place, *words, **more)
    return str(caught.value.code().name)


def root_of(path: str) -> bytes:
    return encoded(METHODS["Root"].path, path.encode())


def test_a_token_of_dolt_creds_that_does_not_hold_is_nobody(place, machine):
    key = new_key(machine)
    stranger = Credential("x", b"\1" * 32, b"")
    place.desk.keys[key.id] = ("alice", key.public)
    private, now = root_of("alice/closed"), time.time()
    assert call(place, "Root", private, jwt(key))
    assert call(place, "Root", private, jwt(key, aud="127.0.0.1"))
    for bad in (
        jwt(key, exp=now - 60), jwt(key, exp=now + 3600), jwt(key, exp="soon"), jwt(key, exp=float("nan")),
        jwt(key, nbf=now + 600), jwt(key, aud=["elsewhere.example"]), jwt(key, aud=[]), jwt(key, aud=None),
        jwt(key, sub="doltClientCredentials/other"), jwt(key, sign=stranger), jwt(key, header={"alg": "none"}),
        jwt(key, header={"kid": 7}), jwt(key, header={"kid": "other"}), jwt(key, header={"crit": ["x"]}),
        jwt(key)[:-4], jwt(key) + ".x", "Bearer ", "Bearer a.b.c", "Bearer W10.W10.W10", "Basic", "Basic !!",
        "Basic " + base64.b64encode(b"alice").decode(), "Basic " + base64.b64encode(b"\xff:x").decode(),
        "Digest x", "",
    ):  # fmt: skip
        assert refusal(place, "Root", root_of("alice/open"), bad) == "UNAUTHENTICATED", bad


@pytest.mark.parametrize(
    "path",
    ["", "/", "alice", "alice__open", "../x", "alice/../bob", "a/b/c", "/alice/open", "alice/open/", "alice/open/main",
     "alice//open", "alice/open\n", "alice/op%65n", "mysql/x y", "ａlice/open", "alice\x00/open", "a" * 300 + "/b"],
)  # fmt: skip
def test_only_an_owner_and_a_repository_are_names(place, path):
    assert refusal(place, "Root", root_of(path)) == "INVALID_ARGUMENT"


def test_the_server_s_own_name_of_a_database_is_no_repository(place):
    for path in ("alice__open/main", "alice__closed/main", "information_schema/x", "alice/alice__open"):
        assert refusal(place, "Root", root_of(path)) == "NOT_FOUND"


def test_malformed_messages_are_refused(place):
    good, other = root_of("alice/open"), root_of("alice/closed")
    id_of = encoded(1, encoded(1, b"alice") + encoded(2, b"open"))
    assert call(place, "Root", good) == call(place, "Root", id_of) == call(place, "Root", id_of + good)
    for bad in (
        b"", b"\x1a", b"\x1a\xff", b"\x1a\x0aabc", b"\x00\x00", b"\x1b", b"\xff" * 12, good[:-1], good + good,
        good + other, other + good, good + encoded(1, encoded(1, b"alice") + encoded(2, b"closed")),
        id_of + id_of, b"\x18\x01" + good, encoded(3, b"\xff\xfe/x"), encoded(1, b"\x0a"), good + b"\x3b",
        good + encoded(9, b"") * 70_000,
    ):  # fmt: skip
        assert refusal(place, "Root", bad) == "INVALID_ARGUMENT", bad[:40]


def test_other_methods_and_services_are_not_there(place):
    assert refusal(place, "Anything", root_of("alice/open")) == "UNIMPLEMENTED"
    assert refusal(place, "Root", root_of("alice/open"), service="grpc.health.v1.Health") == "UNIMPLEMENTED"


def test_each_writing_method_wants_the_right_to_write(place):
    basic = {name: "Basic " + base64.b64encode(name.encode()).decode()
             for name in ("alice:alice-reads", "bob:bob-token")}  # fmt: skip
    for method in METHODS.values():
        if method.writes:
            message = encoded(method.path, b"alice/open")
            assert refusal(place, method.name, message) == "UNAUTHENTICATED"
            assert refusal(place, method.name, message, basic["alice:alice-reads"]) == "PERMISSION_DENIED"
            assert refusal(place, method.name, message, basic["bob:bob-token"]) == "PERMISSION_DENIED"
    assert {method.name for method in METHODS.values() if method.writes} == {
        "GetUploadLocations", "Commit", "AddTableFiles"}  # fmt: skip


def test_a_stream_is_asked_for_its_rights_at_each_repository(place):
    hidden = encoded(4, b"alice/closed")
    with grpc.insecure_channel(f"127.0.0.1:{place.port}") as channel:
        answers = channel.stream_stream(f"/{SERVICE}/StreamDownloadLocations")(
            iter([encoded(4, b"alice/open"), encoded(4, b"bob/own"), hidden]), timeout=10
        )
        assert [next(answers), next(answers)] == [b"", b""]
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_what_would_reach_into_another_repository_or_end_the_server_is_refused(place):
    alice = "Basic " + base64.b64encode(b"alice:alice-token").decode()
    up = encoded(5, b"alice/open")
    good = encoded(1, b"\1" * 20) + encoded(3, b"\2" * 16) + b"\x20\x01"
    assert call(place, "GetUploadLocations", up + encoded(3, good), alice)
    for bad in (encoded(1, b"\1" * 19), good + encoded(5, b"/../../bob__own/x"), good + encoded(1, b"\1" * 20), b""):
        assert refusal(place, "GetUploadLocations", up + encoded(3, bad), alice) == "INVALID_ARGUMENT"
    for file in (b"../../../alice__closed/.dolt/noms/" + b"v" * 32, b"", b"v" * 33):
        message = encoded(4, b"alice/open") + encoded(2, file)
        assert refusal(place, "RefreshTableFileUrl", message) == "INVALID_ARGUMENT"
    assert call(place, "Root", root_of("alice/open"))


def address_of(place: Place) -> str:
    """The sealed address of a table file of the public repository."""
    answer = call(place, "ListTableFiles", encoded(4, b"alice/open"))
    (found, *_) = re.findall(rb"http://[^\x00-\x20\x7f-\xff]+", answer)
    return str(found.decode())


def test_only_sealed_addresses_reach_the_store(place):
    address = address_of(place)
    assert address.startswith(f"{place.files}{RemoteProxy.PREFIX}alice__open/")
    with httpx2.Client(trust_env=False) as client:
        assert client.get(address).status_code == 200
        part = client.get(address, headers={"range": "bytes=1-4"})
        assert (part.status_code, len(part.content)) == (206, 4)
        assert part.headers["content-range"].startswith("bytes 1-4/")
        assert part.headers["accept-ranges"] == "bytes"
        assert client.get(re.sub("exp=[0-9]+", "exp=9999999999999", address)).status_code == 400
        assert client.get(address.replace("alice__open", "alice__closed")).status_code == 400
        assert client.get(re.sub("req=[^&]+", "", address)).status_code == 400
        assert client.post(address, content=b"x").status_code in (400, 404)
        assert client.put(address, content=b"x").status_code in (400, 404)
        assert client.request("DELETE", address).status_code == 405
        sealed = place.files + RemoteProxy.PREFIX
        for path in ("", "alice__open/", "alice__open/%2e%2e/x", "a//b", "%2e/x"):
            assert client.get(sealed + path).status_code == 404, path


def commit_of(place: Place, current: bytes, last: bytes) -> bytes:
    return encoded(5, b"bob/own") + encoded(2, current) + encoded(3, last)


def test_a_commit_that_lost_the_race_is_no_push(place):
    bob, started = "Basic " + base64.b64encode(b"bob:bob-token").decode(), len(place.desk.pushes)
    ((_, root),) = ((f.number, f.value) for f in fields(call(place, "Root", encoded(3, b"bob/own"))))
    assert not succeeded(call(place, "Commit", commit_of(place, root, b"\1" * 20), bob))
    assert len(place.desk.pushes) == started
    assert succeeded(call(place, "Commit", commit_of(place, root, root), bob))
    assert len(place.desk.pushes) == started + 1


def test_a_push_is_told_though_the_client_has_gone(place, monkeypatch):
    bob, started = "Basic " + base64.b64encode(b"bob:bob-token").decode(), len(place.desk.pushes)
    ((_, root),) = ((f.number, f.value) for f in fields(call(place, "Root", encoded(3, b"bob/own"))))
    sent = RemoteProxy._sent

    async def slowly(*words) -> bytes:
        await asyncio.sleep(0.5)
        return await sent(*words)

    monkeypatch.setattr(RemoteProxy, "_sent", slowly)
    with grpc.insecure_channel(f"127.0.0.1:{place.port}") as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(f"/{SERVICE}/Commit")(
            commit_of(place, root, root), timeout=0.2, metadata=[("authorization", bob)]
        )
    assert len(place.desk.pushes) == started
    deadline = time.monotonic() + 5
    while len(place.desk.pushes) == started and time.monotonic() < deadline:
        time.sleep(0.02)
    assert place.desk.pushes[started:] == [("bob", "own", "bob")]


def test_a_stream_that_says_nothing_ends(place, monkeypatch):
    monkeypatch.setattr(remote, "LONGEST_PAUSE", 0.2)
    silent = threading.Event()

    def messages() -> Iterator[bytes]:
        yield encoded(4, b"alice/open")
        silent.wait(10)

    with grpc.insecure_channel(f"127.0.0.1:{place.port}") as channel:
        answers = channel.stream_stream(f"/{SERVICE}/StreamDownloadLocations")(messages(), timeout=10)
        assert next(answers) == b""
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        silent.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caught.value.details() == "nothing more came"


def test_without_a_store_the_proxy_says_so_and_a_taken_port_is_an_error(place):
    arguments = {"backend_user": "hub", "backend_password": "x", "access": place.desk, "files_base": place.files}
    lost = RemoteProxy(listen="127.0.0.1:0", backend=f"127.0.0.1:{free_port()}", **arguments)
    wrong = RemoteProxy(listen="127.0.0.1:0", backend=place.proxy.backend, **arguments)
    for proxy, code in ((lost, "UNAVAILABLE"), (wrong, "INTERNAL")):
        there = Place(place.desk, proxy, proxy.start(), place.files)
        try:
            with pytest.raises(grpc.RpcError) as caught:
                call(there, "Root", root_of("alice/open"))
            assert caught.value.code().name == code
            assert "hub" not in caught.value.details()
            with pytest.raises(Unreachable):
                RemoteProxy(listen=f"127.0.0.1:{there.port}", backend="127.0.0.1:1", **arguments).start()
        finally:
            proxy.stop()


def test_a_reader_of_messages_stays_within_them():
    assert [(f.number, f.value) for f in fields(b"\x08\x96\x01\x12\x01a\x1d1234\x2112345678")] == [
        (1, b"\x96\x01"), (2, b"a"), (3, b"1234"), (4, b"12345678")]  # fmt: skip
    for cut in range(1, 8):
        with pytest.raises(Usage):
            list(fields(b"\x12\x07abcdefg"[:cut]))
    request = opened(METHODS["Root"], encoded(3, b"a/b") + encoded(2, b"kept"))
    assert (request.repository, request.rest) == ("a/b", encoded(2, b"kept"))
    shape = METHODS["ListTableFiles"].answer
    answer = encoded(2, encoded(1, b"id") + encoded(3, b"here") + encoded(5, b"again")) + encoded(1, b"root")
    expected = encoded(2, encoded(1, b"id") + encoded(3, b"THERE")) + encoded(1, b"root")
    assert readdressed(answer, shape, lambda address: {"here": "THERE"}[address]) == expected
