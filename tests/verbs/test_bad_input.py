"""Bad input and bad machines: one sentence, the right exit code, nothing changed, and it works again afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Done, User, World
from tests.verbs.test_json import run
from wasteland.dolt import binary
from wasteland.local.config import Paths
from wasteland.node.node import open_node

# Servers that this process starts outlive its interest in them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LONG = "x" * 300
NAMES = ["../../x", "a b", "--help=", "", ".", "..", "a/b", "a\nb", "a\x1b[31m", "é", "-x", "_x", "x" * 65, LONG, "a;b"]


def heads(user: User) -> dict[str, str]:
    """All branches of the user's clone and where they are."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in user.environment().items():
            patch.setenv(name, value)
        node = open_node("acme/commons", Paths(user.home, user.home / ".config", user.home / ".local" / "share"))
        try:
            dirty = node.db.rows("SELECT table_name FROM dolt_status")
            return node.db.branches() | {"dirty": str(len(dirty))}
        finally:
            node.close()


def sentence(done: Done, code: int, *parts: str) -> None:
    """One `wl: ` line, perhaps a hint, the exit code, and nothing on stdout."""
    assert done.code == code, done.err + done.out
    assert done.out == ""
    lines = done.err.splitlines()
    said = [line for line in lines if line.startswith("wl: ")]
    assert len(said) == 1, done.err
    assert all(line.startswith(("wl: ", "  ", "Joining ", "Creating ")) for line in lines), done.err
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    assert 5 < len(said[0]) < 700
    for part in parts:
        assert part in done.err


@pytest.fixture(scope="module")
def town(shared_world: World) -> World:
    poster = shared_world.create("poster", mode="wild-west")
    for number in range(3):
        poster.ok("post", "--title", f"Item {number}")
    return shared_world


@pytest.fixture
def poster(town: World) -> User:
    return town.users["poster"]


@pytest.fixture
def item(poster: User) -> str:
    return json.loads(run(poster, "browse", "--no-sync", "--json").out)[0]["id"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["claim", "w-nothing"], 4), (["status", "nothing"], 4), (["status", ""], 4), (["status", "%"], 4),
        (["status", "w-%"], 4), (["status", "w_"], 4), (["claim", "_-"], 4), (["claim", "W-"], 4),
        (["claim", "w-"], 64),
        (["status", "w"], 64), (["claim", "' OR '1'='1"], 4), (["status", "w-\\"], 4), (["status", "main"], 4),
        (["status", "w-1\n  Status: open"], 4), (["post", "--title", ""], 64), (["post", "--title", " \u3000 "], 64),
        (["post", "--title", "t", "--priority", "5"], 64), (["post", "--title", "t", "--priority", "-2"], 64),
        (["post", "--title", "t", "--priority", "1.5"], 64), (["post", "--title", "t", "--type", "task"], 64),
        (["post", "--title", "t", "--effort", "huge"], 64), (["post", "--title", "a\nb"], 64),
        (["post", "--title", "t", "extra"], 64), (["update", "ITEM", "--priority", "9"], 64), (["update", "ITEM"], 64),
        (["update", "ITEM", "--title", " "], 64), (["accept", "ITEM", "--quality", "0"], 64),
        (["accept", "ITEM", "--quality", "6"], 64), (["accept", "ITEM", "--quality", "five"], 64),
        (["accept", "ITEM", "--quality", "5", "--reliability", "9"], 64),
        (["accept", "ITEM", "--quality", "5", "--confidence", "1.1"], 64),
        (["accept", "ITEM", "--quality", "5", "--confidence", "-0.1"], 64),
        (["accept", "ITEM", "--quality", "5", "--creativity-confidence", "2"], 64),
        (["accept", "ITEM", "--quality", "5", "--severity", "high"], 64), (["accept", "ITEM", "--quality", "5"], 6),
        (["done", "ITEM", "--evidence", " "], 64), (["done", "ITEM", "--evidence", "e"], 6), (["unclaim", "ITEM"], 6),
        (["reject", "ITEM"], 6), (["close", "ITEM"], 6), (["--wasteland", "no/such", "claim", "ITEM"], 4),
        (["--wasteland", "../../x", "claim", "ITEM"], 64), (["claim", "ITEM", "--wasteland", "a/b/c"], 64),
        (["browse", "--priority", "high"], 64), (["review", "--", "--help"], 4), (["review", "wl/../x"], 4),
        (["merge", "main"], 6), (["merge", "origin/main"], 4), (["role", "add", "validator", "../x"], 4),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)  # fmt: skip
def test_bad_words_change_nothing(poster, item, words, code):
    before = heads(poster)
    sentence(run(poster, *[item if word == "ITEM" else word for word in words]), code)
    assert heads(poster) == before


@pytest.mark.parametrize("bad", NAMES)
def test_bad_names_reach_no_folder(town, tmp_path, bad):
    user = User("guest", tmp_path / "home")
    user.home.mkdir()
    hub = ["--remote-base", str(town.hub)]
    for words in (
        ["join", "acme/commons", *hub, "--fork-org", "guest-org", f"--handle={bad}"],
        ["join", "acme/commons", *hub, f"--fork-org={bad}", "--handle", "guest"],
        ["join", *hub, "--fork-org", "guest-org", "--", f"{bad}/commons"],
        ["join", *hub, "--fork-org", "guest-org", "--", f"acme/{bad}"],
        ["create", *hub, "--handle", "guest", "--", f"acme/{bad}"],
        ["create", "guest/commons", *hub, f"--handle={bad}"],
    ):
        if bad == "" and any(word.endswith("=") for word in words):
            continue  # an empty option is one that was not given
        sentence(run(user, *words), 64)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in left if "dolt" not in name} == set()
    assert not (town.hub / "guest").exists()
    assert not (town.hub / "guest-org").exists()


def test_a_wasteland_that_is_not_there_cannot_be_joined(town, tmp_path):
    user = User("guest", tmp_path)
    words = ["--fork-org", "guest-org", "--handle", "guest"]
    sentence(run(user, "join", "no/such", "--remote-base", str(town.hub), *words), 4, "no/such")
    sentence(run(user, "join", "acme/commons", "--remote-base", str(tmp_path / "nowhere"), *words), 4)
    assert run(user, "list", "--json").out == "[]\n"
    assert not (tmp_path / "nowhere").exists()


def test_dolthub_without_a_token(tmp_path):
    user = User("guest", tmp_path)
    for words in (["join", "--fork-org", "guest"], ["create"]):
        sentence(run(user, *words, "hop/wl-commons"), 7, "DOLTHUB_TOKEN")
    assert run(user, "list", "--json").out == "[]\n"


def test_nothing_joined(tmp_path):
    sentence(run(User("guest", tmp_path), "claim", "w-1"), 4, "wl join")


def test_no_dolt(poster, item, tmp_path):
    before = heads(poster)
    poster.ok("server", "stop")
    bare = tmp_path / "bin"
    bare.mkdir()
    env = poster.environment() | {"PATH": str(bare), "XDG_DATA_HOME": str(tmp_path / "data")}
    env.pop("WL_DOLT", None)
    for words in (["claim", item], ["create", "a/b", "--remote-base", str(tmp_path / "hub")], ["browse"]):
        done = subprocess.run(poster.argv(*words), env=env, capture_output=True, text=True, timeout=60)
        sentence(Done(done.returncode, done.stdout, done.stderr), 9, "Dolt is not installed", "scripts/setup")
    assert not (tmp_path / "hub" / "a").exists()
    named = User("poster", poster.home, {"WL_DOLT": str(tmp_path / "none")})
    sentence(named.wl("claim", item), 9, "WL_DOLT")
    assert heads(poster) == before


# configuration


@contextlib.contextmanager
def written(file: Path, text: str):
    """The file with other words in it, for a while."""
    kept = file.read_bytes()
    file.write_text(text)
    try:
        yield
        assert file.read_text() == text
    finally:
        file.write_bytes(kept)


@pytest.mark.parametrize(
    "change",
    ["", "{", "[]", "null", "5", "\x00", "{}", "[" * 100_000, {"rig_handle": 5}, {"rig_handle": None},
     {"upstream": "x/y"}, {"mode": "peace"}, {"mode": 5}, {"signing": "yes"}, {"local_dir": 5}, {"fork_org": []},
     {"provider_type": {}}],
    ids=lambda change: repr(change)[:30],
)  # fmt: skip
def test_a_broken_configuration(poster, item, change):
    file = poster.home / ".config" / "wasteland" / "wastelands" / "acme" / "commons.json"
    text = change if isinstance(change, str) else json.dumps(json.loads(file.read_text()) | change)
    with written(file, text):
        for words in (["claim", item], ["browse"], ["list"], ["config", "set", "mode", "pr"]):
            sentence(run(poster, *words), 9, "commons.json")


@pytest.mark.parametrize(
    "change",
    ["", "{", "[]", {"server_idle": "soon"}, {"server_idle": []}, {"wasteland_id": 5}, {"roles_version": "x"},
     {"seen_upstream": 5}, {"roles_sha256": []}],
    ids=lambda change: repr(change)[:30],
)  # fmt: skip
def test_a_broken_configuration_of_our_own(poster, item, change):
    file = poster.home / ".config" / "wasteland" / "node" / "acme" / "commons.json"
    text = change if isinstance(change, str) else json.dumps(json.loads(file.read_text()) | change)
    with written(file, text):
        sentence(run(poster, "claim", item), 9, "commons.json")


def test_a_broken_environment(poster, item):
    before = heads(poster)
    sentence(run(User("poster", poster.home, {"WL_SERVER_IDLE": "soon"}), "claim", item), 9, "WL_SERVER_IDLE")
    assert heads(poster) == before


def test_two_wastelands_and_none_named(poster, town, item, tmp_path):
    poster.ok("create", "acme/other", "--remote-base", str(town.hub), "--handle", "poster")
    try:
        sentence(run(poster, "claim", item), 64, "acme/commons, acme/other", "--wasteland")
        assert run(poster, "status", item, "--wasteland", "acme/commons").code == 0
    finally:
        poster.ok("leave", "acme/other")


# the clone


def test_the_clone_is_gone(poster, item):
    before = heads(poster)
    poster.ok("server", "stop")
    clone = poster.clone()
    clone.rename(clone.with_name("moved"))
    try:
        for words in (["claim", item], ["post", "--title", "t"], ["browse"], ["sync"]):
            sentence(run(poster, *words), 9, "there is no clone")
        assert not clone.exists()
    finally:
        clone.with_name("moved").rename(clone)
    assert heads(poster) == before


def test_the_remote_is_gone(poster, town, item):
    before = heads(poster)
    town.hub.rename(town.folder / "away")
    try:
        for words in (["claim", item], ["post", "--title", "t"], ["sync"], ["review", "1"], ["merge", "1"]):
            sentence(run(poster, *words), 8)
        assert not town.hub.exists()
        shown = run(poster, "browse")
        assert shown.code == 0
        assert "shown as of the last sync" in shown.err
        assert heads(poster) == before
        assert run(poster, "doctor", "--check").code == 1
        assert not town.hub.exists()
    finally:
        shutil.rmtree(town.hub, ignore_errors=True)
        (town.folder / "away").rename(town.hub)
    assert run(poster, "sync").code == 0


def test_what_is_here_is_shown_while_the_remote_is_gone(poster, town):
    worker = town.user("worker")
    worker.ok("join", "acme/commons", "--remote-base", str(town.hub), "--fork-org", "worker-org", "--handle", "worker")
    item = json.loads(run(worker, "browse", "--json").out)[0]["id"]
    assert run(worker, "claim", item).code == 0
    before = heads(worker)
    town.hub.rename(town.folder / "away")
    try:
        for words in (["status", item], ["review"], ["me"], ["browse"]):
            done = run(worker, *words)
            assert done.code == 0, done.err
            assert item in done.out
            assert "  Note: shown " in done.err
        sentence(run(worker, "unclaim", item), 8)
        assert heads(worker) == before
    finally:
        (town.folder / "away").rename(town.hub)
    assert run(worker, "unclaim", item).code == 0


def test_the_clone_is_locked_by_another_server(poster, item, tmp_path):
    before = heads(poster)
    poster.ok("server", "stop")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path / "home"
    home.mkdir()
    log = (tmp_path / "log").open("w")
    foreign = subprocess.Popen(
        [str(binary.find()), "sql-server", "--host", "127.0.0.1", "--port", str(port)], cwd=poster.clone(),
        env=poster.environment() | {"HOME": str(home)}, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        sentence(poster.wl("claim", item), 8, "did not start")
    finally:
        foreign.terminate()
        foreign.wait(20)
        log.close()
    assert heads(poster) == before
    assert run(poster, "status", item).code == 0


@pytest.mark.parametrize("what", ["socket", "state", "log", "config", "accounts"])
def test_what_a_killed_server_left_behind_is_in_nobodys_way(poster, item, what):
    before = heads(poster)
    poster.ok("server", "stop")
    folder = poster.clone().parent / ".commons.node"
    if what == "socket":
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(str(folder / "s")) if len(str(folder / "s")) < 100 else None
        stale.close()
        (poster.clone() / ".dolt" / "sql-server.info").write_text("999999:3306:0000")
    elif what == "state":
        (folder / "server.json").write_text('{"keeper": 999999, "server": 999999}')
        (folder / "write.lock").touch()
        (folder / "start.lock").touch()
    elif what == "log":
        (folder / "server.log").write_bytes(b"\xff\x1b[31m\n" * 1000)
    elif what == "config":
        (folder / "server.yaml").write_text("nonsense: [")
    else:
        (folder / "accounts.json").write_text("{")
    assert run(poster, "status", item).code == 0
    assert heads(poster) == before


def test_a_home_that_is_deep(town):
    home = town.folder / "/".join(["deep" * 10] * 6)
    user = User("deep", home)
    user.home.mkdir(parents=True)
    user.ok("join", "acme/commons", "--remote-base", str(town.hub), "--fork-org", "deep-org", "--handle", "deep")
    try:
        assert "Item" in user.ok("browse")
        assert json.loads(user.ok("server", "status", "--json"))["socket"].startswith("/tmp/wl-")
    finally:
        user.stop()


def test_what_another_program_left_uncommitted(poster, item):
    before = heads(poster)
    poster.ok("server", "stop")
    subprocess.run(
        [str(binary.find()), "sql", "-q", f"UPDATE wanted SET title = 'Left' WHERE id = '{item}'"], cwd=poster.clone(),
        env=poster.environment(), check=True, capture_output=True,
    )  # fmt: skip
    dirty = heads(poster)
    assert dirty == before | {"dirty": "1"}
    for words in (["claim", item], ["post", "--title", "t"]):
        sentence(run(poster, *words), 6, "never committed", "wl doctor --fix")
    assert heads(poster) == dirty
    assert run(poster, "doctor", "--check").code == 1
    mended = run(poster, "doctor", "--fix", "--json")
    aside = next(c["detail"] for c in json.loads(mended.out)["checks"] if c["what"] == "working set").split()[-1]
    after = heads(poster)
    assert {name: head for name, head in after.items() if name != aside} == before
    assert after[aside] != before["main"]
    assert "Left" not in run(poster, "browse").out
    assert run(poster, "update", item, "--title", "Right").code == 0


@pytest.fixture
def proposing(poster: User) -> Iterator[User]:
    """The poster, in PR mode for a while."""
    poster.ok("config", "set", "mode", "pr")
    yield poster
    poster.ok("config", "set", "mode", "wild-west")


def test_what_was_left_uncommitted_on_a_branch_of_this_rig(proposing, item):
    poster = proposing
    branch = poster.json("update", item, "--title", "Proposed")["branch"]
    before = heads(poster)
    poster.ok("server", "stop")
    subprocess.run(
        [str(binary.find()), "--branch", branch, "sql", "-q", f"UPDATE wanted SET title = 'Left' WHERE id = '{item}'"],
        cwd=poster.clone(), env=poster.environment(), check=True, capture_output=True,
    )  # fmt: skip
    sentence(run(poster, "update", item, "--title", "Again"), 6, "never committed", "wl doctor --fix")
    sick = next(c for c in json.loads(run(poster, "doctor", "--json").out)["checks"] if c["what"] == "working set")
    assert branch in sick["detail"]
    mended = json.loads(run(poster, "doctor", "--fix", "--json").out)["checks"]
    aside = next(c["detail"] for c in mended if c["what"] == "working set").split()[-1]
    after = heads(poster)
    assert {name: head for name, head in after.items() if name != aside} == before
    assert aside.endswith(f"uncommitted/{branch}")
    assert run(poster, "update", item, "--title", "Again").code == 0
    assert run(poster, "status", item).out.count("Left") == 0


def test_what_lies_uncommitted_in_tables_that_dolt_ignores_or_on_a_branch_that_is_not_ours(poster, item):
    def dolt(*words: str) -> None:
        poster.ok("server", "stop")
        subprocess.run([str(binary.find()), *words], cwd=poster.clone(), env=poster.environment(), check=True)

    def found(*words: str) -> tuple[list[tuple[str, str]], set[str]]:
        checks = json.loads(run(poster, "doctor", "--json", *words).out)["checks"]
        return [(c["state"], c["detail"]) for c in checks if c["what"] == "working set"], {c["what"] for c in checks}

    dolt("sql", "-q", """
        CALL DOLT_CHECKOUT('-b', 'ignoring');
        INSERT INTO dolt_ignore VALUES ('scratch', true);
        CALL DOLT_COMMIT('-Am', 'ignore');
        CREATE TABLE scratch (id INT PRIMARY KEY);
    """)  # fmt: skip
    try:
        for words in ([], ["--fix"]):
            assert found(*words)[0] == [("ok", "clean")]
        left = f"UPDATE wanted SET title = 'Left' WHERE id = '{item}'"
        dolt("sql", "-q", " ".join(f"CALL DOLT_CHECKOUT('-b', '{b}', 'main'); {left};" for b in ("a+b", "plain")))
        said, names = found("--fix")
        assert [state for state, _ in said] == ["failure", "ok"]
        assert "on a+b could not be kept" in said[0][1]
        assert said[1][1].endswith("uncommitted/plain")
        assert "schema" in names, "the other checks go on"
        assert [state for state, _ in found()[0]] == ["failure"]
    finally:
        dolt("branch", "-D", "-f", "ignoring", "a+b", "plain")


# the machine


@contextlib.contextmanager
def mounted(*words: str, at: Path):
    """A mount for a while; the test is skipped where this user may not."""
    at.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *words, str(at)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        for flags in ([], ["-l"]):
            if subprocess.run(["umount", *flags, str(at)], capture_output=True).returncode == 0:
                break
            time.sleep(0.2)


def fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    out.write(b"\0" * size)
    return file


@pytest.mark.skipif(os.getuid() != 0, reason="a full disk needs a mount, and only root may make one here")
@pytest.mark.parametrize("running", [True, False], ids=["server running", "server stopped"])
def test_a_full_disk(world, running):
    with mounted("-t", "tmpfs", "-o", "size=48m", "tmpfs", at=world.folder / "poster"):
        poster = world.create("poster", mode="wild-west")
        made = poster.json("post", "--title", "Before")["item"]["id"]
        before = heads(poster)
        upstream = (world.hub / "acme" / "commons" / "manifest").read_bytes()
        if not running:
            poster.ok("server", "stop")
        filler = fill(poster.home)
        try:
            for words in (["post", "--title", "t", "-d", "d" * 8000], ["claim", made]):
                done = poster.wl(*words)
                print(done.code, done.err)
                sentence(done, done.code)
        finally:
            filler.unlink()
        assert heads(poster) == before
        assert (world.hub / "acme" / "commons" / "manifest").read_bytes() == upstream
        poster.ok("claim", made)
        poster.ok("post", "--title", "After")
        poster.ok("sync")
        poster.stop()


@pytest.mark.skipif(os.getuid() != 0, reason="a read-only mount needs root here")
@pytest.mark.parametrize("running", [True, False], ids=["server running", "server stopped"])
def test_a_home_on_a_read_only_mount(poster, item, running):
    before = heads(poster)
    if not running:
        poster.ok("server", "stop")
    with mounted("--bind", str(poster.home), at=poster.home):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(poster.home)], check=True)
        for words in (["claim", item], ["post", "--title", "t"], ["config", "set", "mode", "pr"], ["browse"],
                      ["join", "x/y", "--remote-base", str(poster.home / "hub"), "--fork-org", "o"]):  # fmt: skip
            sentence(poster.wl(*words), 9, "Read-only")
    assert heads(poster) == before
    assert run(poster, "status", item).code == 0
