"""Creating, joining, leaving and joining again; and what an interrupted join leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys


def test_leaving_and_joining_again_takes_up_the_clone(world):
    world.create("poster")
    worker = world.join("worker", by=world.users["poster"])
    worker.ok("post", "--title", "Kept draft", "--no-push")
    worker.ok("leave")
    assert worker.wl("browse").code == 4
    again = worker.json("join", "acme/commons", "--remote-base", str(world.hub), "--fork-org", "worker-org",
                        "--handle", "worker")  # fmt: skip
    assert (again["already"], again["pull"]) == (False, None)
    assert "Kept draft" in worker.ok("browse")
    assert worker.json("join", "acme/commons")["already"]


def test_a_clone_of_something_else_is_left_alone(world):
    world.create("poster")
    worker = world.join("worker")
    worker.ok("leave")
    other = worker.wl(
        "join", "acme/commons", "--remote-base", str(world.hub), "--fork-org", "other", "--handle", "other"
    )
    assert other.code == 5
    assert "move it away" in other.err
    assert (worker.clone() / ".dolt").is_dir()


def test_a_handle_that_belongs_to_somebody_else_is_refused_and_leaves_nothing(world):
    poster = world.create("poster")
    world.join("worker", by=poster)
    thief = world.user("thief")
    taken = thief.wl(
        "join", "acme/commons", "--remote-base", str(world.hub), "--fork-org", "thief", "--handle", "worker"
    )
    assert taken.code == 5
    assert "belongs to somebody else" in taken.err
    assert not thief.clone().exists()
    assert thief.ok("list").startswith("No wastelands")


def test_a_published_key_that_is_not_here_is_not_replaced(world):
    poster = world.create("poster")
    worker = world.join("worker", by=poster)
    worker.ok("leave")
    shutil.rmtree(worker.home / ".config/wasteland/keys")
    again = worker.wl(
        "join", "acme/commons", "--remote-base", str(world.hub), "--fork-org", "worker-org", "--handle", "worker"
    )
    assert again.code == 6
    assert "not on this machine" in again.err
    assert (worker.clone() / ".dolt").is_dir()


def test_a_killed_join_is_begun_anew(world):
    world.create("poster")
    worker = world.user("worker")
    words = ("join", "acme/commons", "--remote-base", str(world.hub), "--fork-org", "worker-org", "--handle", "worker")
    for seconds in (0.25, 0.5, 0.8):
        import os
        import signal
        import time

        process = worker.start(*words)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    made = worker.json(*words)
    assert made["pull"] is not None or made["already"]
    assert json.loads(worker.ok("browse", "--json")) == []


def test_the_creator_may_create_once(world):
    poster = world.create("poster")
    assert poster.wl("create", "acme/commons", "--remote-base", str(world.hub)).code == 5
    other = world.user("other")
    taken = other.wl("create", "acme/commons", "--remote-base", str(world.hub))
    assert taken.code == 5
    assert "already exists" in taken.err
    assert not other.clone().exists()


def test_a_wasteland_on_one_machine_only(world):
    poster = world.user("poster")
    made = poster.json("create", "acme/commons", "--local-only")
    assert made["wasteland_id"].startswith("urn:uuid:")
    poster.ok("config", "set", "mode", "wild-west")
    assert poster.json("post", "--title", "Local", "--no-push")["item"]["status"] == "open"
    assert "Local" in poster.ok("browse", "--no-sync")


EMAILS = """
from wasteland.node.node import open_node
n = open_node(None)
print(sorted({one.email for one in n.db.log('main')}))
n.close()
"""


def test_no_address_of_this_machine_is_in_a_commit_unless_it_is_asked_for(world):
    ada = world.create("ada", mode="wild-west")  # who has given Dolt ada@example.com

    def emails() -> str:
        done = subprocess.run([sys.executable, "-c", EMAILS], env=ada.environment(), capture_output=True, text=True)
        return done.stdout

    ada.ok("post", "--title", "One")
    assert "example.com" not in emails()
    assert "ada@wasteland.invalid" in emails()
    ada.ok("config", "set", "commit-email", "ada@public.example")
    ada.ok("post", "--title", "Two")
    assert "ada@public.example" in emails()
    assert ada.wl("config", "set", "commit-email", "Ada <ada>").code == 64
