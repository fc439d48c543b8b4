"""The program: its words, its JSON, its exit codes, and the seam to the node."""

import json
import os
import subprocess
import sys

import pytest
from conftest import GATE, Place, git

from gastown import git as hosts
from gastown.errors import Unreachable
from gastown.models import Phase
from wasteland.orders import changes_sha256, parse_report

NODE = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as out:
    out.write(json.dumps(sys.argv[1:]) + "\\n")
if sys.argv[1:3] == ["orders", "next"]:
    order = dict(wanted_id="w-42", title="Add a file", description="mode: ok", rig_handle="ada",
                 posted_by="b\\x1bob", sandbox_required=True, schema_version=1)
    print(json.dumps({{"schema_version": 1, "orders": [order] if "w-42" in sys.argv else []}}))
elif (here / "broken").exists():
    print("wl: the hub does not answer", file=sys.stderr)
    sys.exit(8)
else:
    (here / "report.json").write_text(pathlib.Path(sys.argv[3]).read_text())
"""


@pytest.fixture
def node(place, monkeypatch):
    """A `wl` that has one order and keeps the report."""
    folder = place / "node"
    folder.mkdir()
    (folder / "wl").write_text(NODE.format(python=sys.executable))
    (folder / "wl").chmod(0o755)
    monkeypatch.setenv("WL", str(folder / "wl"))
    return folder


def test_from_order_to_evidence(home_town, node):
    slung = json.loads(home_town.gt("sling", "w-42", "--budget", "1m", "--json").stdout)
    bead = slung["args"]["bead"]
    home_town.gt("up", "--once")
    status = json.loads(home_town.gt("status", "--json").stdout)
    assert [(b["phase"], b["wanted_id"], b["next"]) for b in status["beads"]] == [
        ("held", "w-42", f"gt approve {bead}")
    ]
    assert "\x1b" not in home_town.gt("status", bead, "--diff").stdout

    (node / "broken").touch()
    home_town.gt("approve", bead)
    home_town.gt("up", "--once")
    unreported = home_town.bead(bead)
    assert (unreported.phase, unreported.reported_at) == (Phase.LANDED, None)
    assert "hub does not answer" in unreported.reason

    (node / "broken").unlink()
    home_town.gt("up", "--once")
    assert home_town.bead(bead).reported_at
    report = parse_report((node / "report.json").read_text())
    assert report.wanted_id == "w-42"
    assert (report.sandbox_level, report.sandbox_network) == ("L2", "none")
    assert report.head == home_town.main()
    listed = subprocess.run(
        ["git", "diff-tree", "-r", "-z", "--raw", "--no-abbrev", "--no-renames", report.base, report.head],
        cwd=home_town.origin, check=True, capture_output=True,
    ).stdout  # fmt: skip
    assert (report.schema_version, report.changes_sha256) == (2, changes_sha256(listed))
    assert report.base == git(home_town.origin, "rev-parse", "main^1")
    assert [(gate.argv, gate.exit) for gate in report.gates] == [(GATE, 0)]
    calls = len((node / "calls").read_text().splitlines())
    home_town.gt("up", "--once")
    assert len((node / "calls").read_text().splitlines()) == calls, "evidence is handed over once"


def test_words_of_an_order_control_nothing(home_town, node):
    home_town.gt("sling", "w-42")
    home_town.up()
    with home_town.town() as town:
        bead = town.ledger.beads()[0]
    assert (bead.hold, bead.sandbox, bead.phase) == (True, "required", Phase.HELD)


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["sling"], 64),
        (["sling", "w-42", "--budget", "soon"], 64),
        (["sling", "w-43"], 4),
        (["sling", "w-42", "--i-accept-no-sandbox"], 6),
        (["sling", "gt-none"], 4),
        (["sling", "--title", "x", "--rig", "none"], 4),
        (["approve", "gt-none"], 4),
        (["status", "gt-none"], 4),
        (["nonsense"], 64),
        (["rig", "add", "x"], 64),
        (["rig", "add", "../x", "/tmp", "--agent", "a", "--gate", "b", "--budget", "1m"], 64),
        (["rig", "add", "x", "ssh://h/x", "--agent", "a", "--gate", "b", "--budget", "1m"], 64),
        (["rig", "add", "x", "/nonexistent", "--agent", "a", "--gate", "b", "--budget", "1m"], 8),
        (["rig", "add", "x", "/tmp", "--agent", "'", "--gate", "b", "--budget", "1m"], 64),
        (["rig", "add", "x", "/tmp", "--agent", "a", "--budget", "1m"], 64),
        (["rig", "add", "x", "/tmp", "--agent", "a", "--gate", "b"], 64),
        (["install", "TOWN"], 5),
    ],
)
def test_bad_words_get_one_sentence_and_a_code(home_town, node, argv, code):
    done = home_town.gt(*[str(home_town.root) if word == "TOWN" else word for word in argv], check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("gt: ")
    assert all(line.startswith("  Hint: ") for line in done.stderr.splitlines()[1:])


def test_a_town_is_refused_where_the_path_is_not_text(tmp_path):
    odd = tmp_path / "caf\udce9"
    odd.mkdir()
    gt = [sys.executable, "-c", "from gastown.cli import main; main()"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    for words, cwd in (([str(odd / "town")], tmp_path), (["town"], odd)):
        done = subprocess.run([*gt, "install", *words], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 64, done.stderr
        assert "UTF-8" in done.stderr
        assert not (odd / "town").exists()


SECRET = "S3cretTokenOfBob"
RIG = ("--agent", f"sh -c 'curl https://bob:{SECRET}@h.example'", "--gate", f"true https://bob:{SECRET}@h.example",
       "--budget", "1m")  # fmt: skip


def test_a_secret_in_an_address_is_told_to_nobody(home_town):
    at_host = f"https://bob:{SECRET}@git.example.org/bob/r.git"
    said = [home_town.gt("rig", "add", "p", str(home_town.origin), "--public", at_host, *RIG).stdout]
    for argv in (
        ["rig", "add", "q", f"https://bob:{SECRET}@127.0.0.1:1/r.git", *RIG],
        ["rig", "add", "q", f"ssh://bob:{SECRET}@127.0.0.1/r.git", *RIG],
        ["rig", "add", "q", f"bob:{SECRET}@127.0.0.1:r.git", *RIG],
    ):
        done = home_town.gt(*argv, check=False)
        assert done.returncode in (8, 64)
        said += [done.stdout, done.stderr]
    said += [home_town.gt("log", "--json").stdout, home_town.gt("rig", "list", "--json").stdout]
    rigs = {rig["name"]: rig for rig in json.loads(said[-1])["rigs"]}
    assert rigs["p"]["public"] == "https://git.example.org/bob/r.git"
    commands = [*rigs["p"].pop("gates"), rigs["p"].pop("agent")]  # these are run as they are, and shown to their user
    said[-1] = json.dumps(rigs)
    assert SECRET in str(commands)
    assert not [one for one in said if SECRET in one]


def test_evidence_has_the_name_of_a_local_repository_and_its_path_on_request_only(home_town):
    add = ("--agent", "a", "--gate", "b", "--budget", "1m", "--json")
    path = str(home_town.origin)
    assert json.loads(home_town.gt("rig", "add", "p", path, *add).stdout)["rig"]["public"] == home_town.origin.name
    assert json.loads(home_town.gt("rig", "add", "q", path, "--public", path, *add).stdout)["rig"]["public"] == path


def test_an_origin_with_a_secret_is_reached_by_it_and_called_without_it(home_town, monkeypatch):
    """The address that git goes to is of a folder, in place of a host with a password."""
    origin, secret = hosts.apart(f"https://bob:{SECRET}@h.example/r.git")
    assert (origin, SECRET in secret) == ("https://h.example/r.git", True)
    assert hosts.apart("https://h.example/r.git") == ("https://h.example/r.git", "")
    monkeypatch.setattr(hosts, "is_url", lambda origin: False)
    repo = hosts.Repo(home_town.root / "rigs" / "x.git", origin, "main")
    repo.init()
    with pytest.raises(Unreachable):
        repo.fetch()
    repo.reach_by(f"file://{home_town.origin}")
    assert repo.fetch() == home_town.main()
    hosts.check_rig(origin, "main", f"file://{home_town.origin}")
    assert (home_town.root / "rigs" / "x.address").stat().st_mode & 0o777 == 0o600
    repo.reach_by("")
    with pytest.raises(Unreachable):
        repo.fetch()


def test_a_rig_whose_main_is_checked_out_is_refused(home_town):
    add = ["rig", "add", "src", str(home_town.source), "--agent", "a", "--gate", "b", "--budget", "1m"]
    done = home_town.gt(*add, check=False)
    assert done.returncode == 6
    assert "checked out" in done.stderr
    git(home_town.source, "checkout", "-q", "-b", "mine")
    assert json.loads(home_town.gt(*add, "--json").stdout)["rig"]["name"] == "src"


def test_every_reader_speaks_json(home_town):
    home_town.gt("sling", "--title", "x", "--text", "mode: ok")
    for argv in (["status"], ["agents"], ["log"], ["log", "--verify"], ["rig", "list"], ["up", "--once"], ["down"]):
        assert json.loads(home_town.gt(*argv, "--json").stdout)["schema_version"] == 1
        if argv[0] != "down":
            assert home_town.gt(*argv).returncode == 0


def test_no_town_says_how_to_make_one(place, boxed):
    here = Place(place)
    here.root = place / "nowhere"
    done = here.gt("status", check=False)
    assert done.returncode == 4
    assert "gt install" in done.stderr
