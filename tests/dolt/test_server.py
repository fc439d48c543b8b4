"""The clone's server: started once, found again, stopped when idle, and what killing leaves."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest

from wasteland.dolt import binary, processes, starting
from wasteland.dolt.server import Server
from wasteland.errors import Locked, Misconfigured, Unreachable

IDLE = 60.0
# PyMySQL leaves the socket of a refused connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def server(template: Path, tmp_path: Path) -> Iterator[Server]:
    yield from _served(template, tmp_path / "org" / "db", tmp_path)


def _served(template: Path, clone: Path, folder: Path, idle: float = IDLE) -> Iterator[Server]:
    clone.parent.mkdir(parents=True)
    shutil.copytree(template, clone)
    made = Server(clone, binary.dolt_home(folder / "data"), idle=idle)
    made.prepare()
    made.made()
    yield made
    made.stop()


def state(server: Server) -> dict[str, int]:
    found: dict[str, int] = json.loads((server.folder / "server.json").read_text())
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(said: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def ask(server: Server) -> int:
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return int(cursor.fetchone()[0])
    finally:
        connection.close()


def test_a_second_client_finds_the_same_server(server):
    assert ask(server) == 1
    first = state(server)
    assert ask(Server(server.clone, server.home, idle=IDLE)) == 1
    assert state(server) == first


def test_an_idle_server_stops_and_the_next_question_starts_another(template, tmp_path):
    serving = _served(template, tmp_path / "org" / "db", tmp_path, idle=0.4)
    server = next(serving)
    ask(server)
    first = state(server)
    time.sleep(0.9)
    assert alive(first["server"]), "it stopped although a client is there"
    server.leave()
    until(lambda: not alive(first["server"]) and not alive(first["keeper"]))
    assert ask(server) == 1
    assert state(server)["server"] != first["server"]
    serving.close()
    server.stop()


RACER = """
import sys
from pathlib import Path
from wasteland.dolt.server import Server
server = Server(Path(sys.argv[1]), Path(sys.argv[2]), idle=60)
connection = server.connect()
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
print((server.folder / "server.json").read_text())
"""


def test_processes_that_race_start_one_server(server):
    words = [sys.executable, "-c", RACER, str(server.clone), str(server.home)]
    racers = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    said = {racer.communicate(timeout=90)[0].strip() for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 8
    assert len(said) == 1


@pytest.mark.parametrize("victim", ["server", "keeper"])
def test_a_killed_process_is_recognised(server, victim):
    ask(server)
    first = state(server)
    os.kill(first[victim], signal.SIGKILL)
    until(lambda: not alive(first["server"]) and not alive(first["keeper"]))
    assert ask(server) == 1
    assert state(server)["server"] != first["server"]


def test_a_stale_socket_and_old_locks_do_no_harm(server):
    ask(server)
    server.stop()
    import socket

    with socket.socket(socket.AF_UNIX) as stale:
        server.socket_path().unlink(missing_ok=True)
        stale.bind(str(server.socket_path()))
    for name in ("start.lock", "write.lock", "in-use"):
        (server.folder / name).touch()
    assert ask(server) == 1
    assert server.status()["running"]


def _lose_all(server: Server) -> None:
    shutil.rmtree(server.folder)


def _lose(*names: str) -> Callable[[Server], None]:
    def lose(server: Server) -> None:
        for name in names:
            (server.folder / name).unlink()

    return lose


LOSSES = [
    _lose("s"), _lose("s", "server.json"), _lose("accounts.json"), _lose("privileges.db"), _lose("server.yaml"),
    _lose_all,
]  # fmt: skip


@pytest.mark.parametrize("lose", LOSSES)
def test_a_server_that_runs_is_found_whatever_of_its_files_is_gone(server, lose):
    ask(server)
    first = state(server)
    server.leave()
    lose(server)
    again = Server(server.clone, server.home, idle=IDLE)
    assert ask(again) == 1
    assert again.stop() is True
    assert not alive(first["server"])
    assert not alive(first["keeper"])


SLOW_TO_END = """
import ctypes, fcntl, os, signal, sys, threading, time
held = open(sys.argv[1], "w")
fcntl.flock(held, fcntl.LOCK_EX)
def last():
    print("ready", flush=True)
    signal.sigwait({signal.SIGTERM})
    going.set()
    time.sleep(0.5)
    os._exit(0)
going = threading.Event()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
threading.Thread(target=last).start()
going.wait()
ctypes.CDLL(None).syscall(60, 0)  # the first thread alone: no command line any more, and the files are still held
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="names a system call by its number")
def test_a_process_is_gone_only_when_it_holds_no_file_any_more(tmp_path):
    keeper, held = tmp_path / processes.KEEPER.decode(), tmp_path / "held"
    keeper.write_text(SLOW_TO_END)
    words = [sys.executable, "-I", str(keeper), str(held), str(tmp_path / processes.CONFIG)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as slow:
        slow.stdout.readline()
        assert processes.end(tmp_path, patience=20) is True
        with held.open() as ours:
            fcntl.flock(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("lose", [_lose("s"), _lose_all])
def test_a_server_that_cannot_be_reached_is_stopped_when_asked(server, lose):
    ask(server)
    first = state(server)
    server.leave()
    lose(server)
    assert server.stop() is True
    assert not alive(first["server"])


def test_a_server_goes_on_under_another_name_of_its_folder_and_ends_when_that_moves(server, tmp_path):
    ask(server)
    first = state(server)
    link = tmp_path / "link"
    link.symlink_to(server.clone.parent)
    assert ask(Server(link / "db", server.home, idle=IDLE)) == 1
    assert state(server) == first
    moved = server.clone.parent.rename(tmp_path / "moved")
    there = Server(moved / "db", server.home, idle=IDLE)
    assert ask(there) == 1
    assert not alive(first["server"])
    there.stop()


def test_a_server_that_hangs_is_said_and_stopped_when_asked(server, monkeypatch):
    ask(server)
    first = state(server)
    server.leave()
    monkeypatch.setattr(starting, "STOP_TIMEOUT", 0.5)
    monkeypatch.setattr(Server, "login", _silent)
    with pytest.raises(Unreachable, match=f"process {first['server']}.* does not answer") as caught:
        server.connect()
    assert "wl server stop" in str(caught.value.hint)
    assert alive(first["server"]), "others may be at work there"
    os.kill(first["server"], signal.SIGSTOP)
    assert server.stop() is True
    assert not alive(first["server"])


def _silent(self: Server, account: str) -> None:
    raise pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query (timed out)")


def test_another_program_that_has_the_clone_is_named(server):
    lock = server.clone / ".dolt" / "noms" / "LOCK"
    with subprocess.Popen(
        [str(binary.find()), "sql"], cwd=server.clone, env=binary.environment(server.home),
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as other:  # fmt: skip
        until(lambda: processes.holder(lock) is not None)
        with pytest.raises(Locked, match=f"process {other.pid} .*has the clone open"):
            server.connect()
        assert other.poll() is None
        other.kill()
    assert ask(server) == 1


def test_a_process_that_only_names_the_configuration_is_not_taken_for_a_server(server):
    ask(server)
    server.stop()
    words = [sys.executable, "-c", "input()", str(server.folder / "server.yaml")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, cwd=server.folder) as other:
        assert server.stop() is False
        assert other.poll() is None
        other.kill()


def test_stop_and_status(server):
    assert server.status()["running"] is False
    assert server.stop() is False
    ask(server)
    seen = server.status()
    assert (seen["running"], seen["socket"]) == (True, str(server.socket_path()))
    assert alive(seen["server_pid"])
    assert server.stop() is True
    assert not alive(seen["server_pid"])
    assert server.status()["running"] is False


def test_the_words_server_status_and_stop(world):
    user = world.create("poster")
    user.ok("browse", "--no-sync")
    seen = user.json("server", "status")
    assert seen["running"]
    assert user.json("server", "stop")["stopped"] is True
    assert not alive(seen["server_pid"])
    assert user.json("server", "stop")["stopped"] is False


@pytest.mark.parametrize("account", ["root", "node", "sync"])
def test_nobody_logs_in_without_the_password(server, account):
    ask(server)
    line = next(line for line in (server.folder / "server.yaml").read_text().splitlines() if "port:" in line)
    port = int(line.partition("port:")[2].split(",")[0])
    assert "127.0.0.1" in line
    for password in ("", "root", "x" * 48):
        with pytest.raises(pymysql.err.OperationalError):
            pymysql.connect(host="127.0.0.1", port=port, user=account, password=password, ssl_disabled=True)
        with pytest.raises(pymysql.err.OperationalError):
            pymysql.connect(unix_socket=str(server.socket_path()), user=account, password=password, ssl_disabled=True)


def test_the_folder_is_its_owners_alone(server):
    ask(server)
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    for name in ("accounts.json", "server.yaml", "in-use", "start.lock"):
        assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600, name
    server.stop()
    server.folder.chmod(0o755)
    with pytest.raises(Misconfigured):
        ask(server)
    server.folder.chmod(0o700)
    if os.getuid() == 0:
        os.chown(server.folder, 12345, 12345)
        with pytest.raises(Misconfigured, match="belongs to another user") as caught:
            server.connect("node")
        assert "chmod" not in str(caught.value.hint)
        os.chown(server.folder, 0, 0)


def test_a_long_path_listens_in_tmp(template, tmp_path):
    serving = _served(template, tmp_path / ("long" * 30) / "db", tmp_path)
    server = next(serving)
    path = server.socket_path()
    assert path.is_relative_to(f"/tmp/wl-{os.getuid()}")
    assert ask(server) == 1
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    server.stop()
    shutil.rmtree(path.parent)
    serving.close()


def test_a_clone_that_is_not_there_is_said(tmp_path):
    with pytest.raises(Misconfigured, match="no clone"):
        Server(tmp_path / "org" / "db", tmp_path).connect()


def test_dolt_leaves_no_litter_where_other_programs_have_their_temporary_files(tmp_path, monkeypatch):
    home, common = tmp_path / "home", tmp_path / "common"
    common.mkdir()
    monkeypatch.setenv("TMPDIR", str(common))
    binary.run(["version"], cwd=tmp_path, env=binary.environment(home))
    assert list(common.iterdir()) == []
    (left,) = (home / "tmp").iterdir()
    hour = time.time() - 3600
    os.utime(left, (hour, hour))
    (home / "tmp" / "spilt").write_text("rows")
    os.utime(home / "tmp" / "spilt", (hour, hour))
    binary.environment(home)
    assert [path.name for path in (home / "tmp").iterdir()] == ["spilt"]
    os.utime(home / "tmp" / "spilt", (hour - 8 * 86400, hour - 8 * 86400))
    binary.environment(home)
    assert list((home / "tmp").iterdir()) == []
