"""What a command loads before it does anything, and how it ends.

`reading.txt` lists the modules of a warm reading verb beyond those that Python
and `click` bring.  Each one more is paid for by every `wl browse`: import it in
the function that uses it, or add it to the list and say why.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import User

LIST = Path(__file__).with_name("reading.txt")
LOADED = """
import sys
from wasteland.cli import run
before = set(sys.modules)
code = run(sys.argv[1:])
sys.stderr.write("\\n".join(set(sys.modules) - before))
sys.exit(code)
"""


@pytest.fixture(scope="module")
def rigs(shared_world) -> tuple[User, User, str]:
    wild = shared_world.create("poster", mode="wild-west")
    item = wild.json("post", "--title", "One thing")["item"]["id"]
    pr = shared_world.join("worker", by=wild)
    for user in (wild, pr):
        user.ok("status", item)
    return wild, pr, item


def loaded(user: User, *words: str) -> set[str]:
    """The modules that a command has loaded beyond those of the interpreter and of click; of the library, packages."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], env=user.environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = done.stderr.split("\n")
    packages = {name.partition(".")[0] for name in found}
    return {name for name in packages & sys.stdlib_module_names if not name.startswith("_")} | {
        name for name in found if name.partition(".")[0] not in sys.stdlib_module_names
    }


def test_reading_verbs_load_what_is_listed_and_no_more(rigs):
    wild, pr, item = rigs
    listed = {word for line in LIST.read_text().splitlines() for word in line.partition("#")[0].split()}
    found = {name for user in (wild, pr) for words in (("browse",), ("status", item)) for name in loaded(user, *words)}
    assert sorted(found - listed) == []
    ours = {name for name in listed if name.startswith("wasteland.")}
    assert sorted(ours - found) == [], "listed, and not loaded any more"


def ended(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)


def test_what_was_written_and_what_was_to_be_done_at_the_end_is_not_lost():
    done = ended(
        "import atexit, sys\nfrom wasteland.cli import end\natexit.register(print, 'at the end')\n"
        "sys.stdout.write('x' * 100_000 + '\\n')\nsys.stderr.write('said')\nend(7)"
    )
    assert done.returncode == 7
    assert done.stdout == "x" * 100_000 + "\nat the end\n"
    assert done.stderr == "said"


def test_a_thread_that_works_still_is_waited_for():
    done = ended(
        "import threading, time\nfrom wasteland.cli import end\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), print('worked'))).start()\nend(0)"
    )
    assert (done.returncode, done.stdout) == (0, "worked\n")


def test_what_the_driver_does_without_is_there_for_everybody_else():
    done = ended(
        "import wasteland.dolt.driver, pymysql, sys\n"
        "print(pymysql.connections.SSL_ENABLED, 'ssl' in sys.modules, 'cryptography' in sys.modules)\n"
        "import ssl, getpass, wasteland.local.keys, urllib.request\n"
        "print(hasattr(urllib.request, 'HTTPSHandler'), ssl.OPENSSL_VERSION_NUMBER > 0)"
    )
    assert done.stdout == "False False False\nTrue True\n", done.stderr


def test_what_is_loaded_already_the_driver_leaves_alone():
    done = ended(
        "import ssl, cryptography, sys\nbefore = sys.modules['ssl'], sys.modules['cryptography']\n"
        "import wasteland.dolt.driver\nprint(before == (sys.modules['ssl'], sys.modules['cryptography']))"
    )
    assert done.stdout == "True\n", done.stderr


FORGED = """
from wasteland.errors import BadSignature
from wasteland.node import roles
from wasteland.node.node import open_node

node = open_node(None)
db = node.db.at("main")
assert roles.roles_of(node, "poster", db) == {"root", "maintainer", "validator"}
try:
    with db.change("forge"):
        assert db.run("UPDATE wl_roles SET payload = REPLACE(payload, 'poster', 'worker')") == 1
        print(roles.roles_of(node, "worker", db))
except BadSignature:
    print("refused")
node.close()
"""


def remembered(user: User) -> Path:
    return user.clone().parent / ".commons.node" / "roles"


def test_roles_that_were_verified_once_say_nothing_of_others(rigs):
    _, pr, _ = rigs
    done = subprocess.run(
        [sys.executable, "-c", FORGED], env=pr.environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "refused\n", done.stderr


@pytest.mark.parametrize("damage", [lambda text: text.replace("poster", "worker"), lambda _: "", lambda _: None])
def test_remembered_roles_that_another_wrote_are_verified_again(rigs, damage):
    _, pr, item = rigs
    file = remembered(pr)
    before = file.read_text()
    changed = damage(before)
    if changed is None:
        file.unlink()
    else:
        assert changed != before
        file.write_text(changed)
    assert "wasteland.trust.registry" in loaded(pr, "status", item)
    assert file.read_text() == before
    assert "wasteland.trust.registry" not in loaded(pr, "status", item)


@pytest.mark.parametrize("told", ["", "0", "many", "30", "64", "79", "200"])
def test_help_is_as_wide_as_click_would_make_it(told):
    code = (
        "import click, wasteland.cli as cli\n{}\n"
        "print(cli.wl.make_context('wl', ['x'], resilient_parsing=True).get_help())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code.format(change)], env={"COLUMNS": told}, capture_output=True, text=True,
            timeout=60, stdin=subprocess.DEVNULL,
        ).stdout
        for change in ("", "cli.Commands.context_class = click.Context")
    ]  # fmt: skip
    assert found[0] == found[1] != ""
