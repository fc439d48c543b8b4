"""The Dolt remote of our hub, met by the unmodified `dolt` program: clone, fetch, push, rights."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import grpc
import httpx2
import pytest

from tests.conftest import Done
from tests.hubserver.remote_place import (
    ROWS,
    Machine,
    call,
    free_port,
    new_key,
    next_number,
    sql_server,
)
from tests.peers.proxy import Authority, Behind, connect_proxy
from wasteland.hubserver.remote.proxy import RemoteProxy
from wasteland.hubserver.remote.wire import SERVICE, encoded, fields


def test_anybody_clones_and_fetches_a_public_repository_of_many_rows(machine):
    done, folder = machine.clone("alice/open")
    done.ok()
    counted = machine.dolt("sql", "-r", "csv", "-q", "SELECT COUNT(*), MAX(v) FROM big", cwd=folder).ok().out
    assert counted.split() == ["COUNT(*),MAX(v)", f"{ROWS},{ROWS - 1:064x}"]
    machine.dolt("fetch", cwd=folder).ok()


def test_a_private_repository_is_not_there_for_a_stranger_and_is_for_its_readers(machine):
    done, _ = machine.clone("alice/closed")
    assert done.code
    assert "no such repository" in done.out + done.err
    for user, token in (("alice", "alice-token"), ("alice", "alice-reads"), ("bob", "bob-token")):
        machine.clone("alice/closed", "--user", user, password=token)[0].ok()


@pytest.mark.parametrize(
    ("user", "password", "words"),
    [
        (None, None, "a push needs a user"),
        ("alice", "alice-reads", "this token may only read"),
        ("bob", "bob-token", "you may not push here"),
        ("alice", "guessed", "the user name or the token is wrong"),
        ("alice", "bob-token", "the user name or the token is wrong"),
        ("alice", "", "the user name or the token is wrong"),
    ],
)
def test_a_push_is_refused(place, machine, user, password, words):
    done, folder = machine.clone("alice/open")
    done.ok()
    machine.commit(folder, "refused")
    flags = ["--user", user] if user else []
    done = machine.dolt("push", *flags, "origin", "refused", cwd=folder, password=password)
    assert done.code
    assert words in done.out + done.err
    assert place.desk.pushes == []
    assert "refused" not in heads(machine)


def heads(machine: Machine, repo: str = "alice/open") -> str:
    done, folder = machine.clone(repo)
    done.ok()
    return machine.dolt("branch", "-a", cwd=folder).ok().out


def test_a_writer_pushes_and_everybody_sees_it(place, machine):
    done, folder = machine.clone("alice/open", "--user", "alice", password="alice-token")
    done.ok()
    machine.commit(folder, "pushed")
    machine.dolt("push", "--user", "alice", "origin", "pushed", cwd=folder, password="alice-token").ok()
    assert set(place.desk.pushes) == {("alice", "open", "alice")}
    assert "remotes/origin/pushed" in heads(machine)


def test_a_push_of_many_rows_arrives_whole(place, machine):
    done, folder = machine.clone("bob/own")
    done.ok()
    rows = ",".join(f"({n},'{n:032x}')" for n in range(10, ROWS))
    (machine.home / "rows.sql").write_text(f"INSERT INTO big VALUES {rows}; CALL DOLT_COMMIT('-am', 'rows')")
    machine.dolt("sql", "-f", str(machine.home / "rows.sql"), cwd=folder).ok()
    machine.dolt("push", "--user", "bob", "origin", "main", cwd=folder, password="bob-token").ok()
    done, other = machine.clone("bob/own")
    done.ok()
    counted = machine.dolt("sql", "-r", "csv", "-q", "SELECT COUNT(*) FROM big", cwd=other).ok().out
    assert counted.split()[1] == str(ROWS - 10 + 3)
    answer = call(place, "ListTableFiles", encoded(4, b"bob/own"))
    assert len([field for field in fields(answer) if field.number in (2, 3)]) > 1, "it came in several files"


def test_a_registered_key_pushes_and_another_does_not_even_read(place, machine):
    done, folder = machine.clone("alice/open")
    done.ok()
    machine.commit(folder, "by-key")
    key = new_key(machine)
    done = machine.dolt("push", "origin", "by-key", cwd=folder)
    assert done.code
    assert "the key is not registered here" in done.out + done.err
    assert machine.dolt("fetch", cwd=folder).code
    place.desk.keys[key.id] = ("alice", key.public)
    machine.dolt("push", "origin", "by-key", cwd=folder).ok()
    assert set(place.desk.pushes) == {("alice", "open", "alice")}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_behind_tls_the_program_clones_pushes_and_checks_its_key(place, machine, authority):
    proxy = RemoteProxy(listen="127.0.0.1:0", backend=place.proxy.backend, backend_user="hub",
                        backend_password="pass-word", access=place.desk, files_base=place.files,
                        tls=authority.certified("localhost"), hosts=["localhost"])  # fmt: skip
    machine.base = f"https://localhost:{proxy.start()}"
    trusting = {"SSL_CERT_FILE": str(authority.file)}
    endpoint = machine.base.removeprefix("https://")
    key = new_key(machine)
    try:
        assert machine.dolt("creds", "check", "--endpoint", endpoint, **trusting).code
        place.desk.keys[key.id] = ("alice", key.public)
        assert "alice" in machine.dolt("creds", "check", "--endpoint", endpoint, **trusting).ok().out
        folder = machine.home / "clone"
        machine.dolt("clone", f"{machine.base}/alice/closed", str(folder), **trusting).ok()
        machine.commit(folder, "by-tls")
        machine.dolt("push", "origin", "by-tls", cwd=folder, **trusting).ok()
        trusted = grpc.ssl_channel_credentials(authority.file.read_bytes())
        with grpc.secure_channel(endpoint, trusted) as channel:
            assert channel.unary_unary(f"/{SERVICE}/Root")(encoded(3, b"alice/open"), timeout=10)
    finally:
        proxy.stop()
    assert set(place.desk.pushes) == {("alice", "closed", "alice")}


def test_the_names_that_are_hard_wired_in_dolt_lead_here_and_files_travel_by_https(place, machine, authority):
    proxy = RemoteProxy(listen="127.0.0.1:0", backend=place.proxy.backend, backend_user="hub",
                        backend_password="pass-word", access=place.desk, files_base="https://www.dolthub.com/",
                        hosts=["doltremoteapi.dolthub.com"])  # fmt: skip
    routes = {"doltremoteapi.dolthub.com": Behind(proxy.start(), "h2"),
              "www.dolthub.com": Behind(int(place.files.rpartition(":")[2]), "http/1.1")}  # fmt: skip
    key = new_key(machine)
    place.desk.keys[key.id] = ("alice", key.public)
    try:
        with connect_proxy(authority, routes) as led:
            folder = machine.home / "clone"
            machine.dolt("clone", "alice/closed", str(folder), **led).ok()
            machine.commit(folder, "by-name")
            machine.dolt("push", "origin", "by-name", cwd=folder, **led).ok()
            assert "alice" in machine.dolt("creds", "check", **led).ok().out
            trusted = ssl.create_default_context(cafile=led["SSL_CERT_FILE"])
            with httpx2.Client(proxy=led["HTTPS_PROXY"], verify=trusted, trust_env=False) as client:
                assert client.get("https://www.dolthub.com/").status_code == 404
                with pytest.raises(httpx2.ProxyError):
                    client.get("https://elsewhere.example/")
    finally:
        proxy.stop()
    assert set(place.desk.pushes) == {("alice", "closed", "alice")}


def test_another_sql_server_fetches_and_pushes(place, machine):
    done, folder = machine.clone("alice/closed", "--user", "alice", password="alice-token")
    done.ok()
    port = free_port()

    def ask(sql: str) -> Done:
        return machine.dolt("--host", "127.0.0.1", "--port", str(port), "--no-tls", "-u", "root", "-p", "",
                            "--use-db", folder.name.replace("-", "_"), "sql", "-q", sql)  # fmt: skip

    folder = folder.rename(folder.with_name(folder.name.replace("-", "_")))
    data = str(machine.home / "served")
    os.mkdir(data)
    folder.rename(Path(data) / folder.name)
    with sql_server(machine.home, "--data-dir", data, port=port, DOLT_REMOTE_PASSWORD="alice-token"):
        ask("CALL DOLT_FETCH('--user', 'alice', 'origin')").ok()
        ask(f"INSERT INTO t VALUES ({next_number()}, 'x'); CALL DOLT_COMMIT('-am', 'by a server')").ok()
        ask("CALL DOLT_PUSH('--user', 'alice', 'origin', 'main')").ok()
        ask(f"CALL DOLT_CLONE('{place.base}/alice/open', 'cloned')").ok()
        assert str(ROWS) in ask("SELECT COUNT(*) FROM cloned.big").ok().out
        assert ask("CALL DOLT_PUSH('--user', 'bob', 'origin', 'main')").code
    assert ("alice", "closed", "alice") in place.desk.pushes
