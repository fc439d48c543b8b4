"""`wl doctor --probe` against a hub of our own, whose behaviour is known: what it answers, and that it cleans up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Done, User, World
from tests.hubs import Hub


@dataclass
class Place:
    """A hub with a commons of `acme` and a fork of `ada`, who asks."""

    hub: Hub
    ada: User

    def probe(self, *words: str) -> dict[str, dict[str, str]]:
        """The answers by their questions; none of the output has a token in it."""
        done = self.ada.wl("doctor", "--probe", *words, "--json").ok()
        assert not any(token in done.out + done.err for token in self.hub.tokens.values())
        return {one["question"]: one for one in json.loads(done.out)["answers"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    hub, world = Hub.start(folder / "hubdir"), World(folder)
    try:
        for name in ("acme", "ada"):
            user = world.user(name, WL_HUB=hub.api, WL_HUB_TOKEN=hub.add_user(name))
            user.ok("create" if name == "acme" else "join", "acme/commons")
        yield Place(hub, world.users["ada"])
    finally:
        world.stop()
        hub.stop()


@pytest.fixture(autouse=True)
def _no_faults(place) -> Iterator[None]:
    yield
    place.hub.faults()


def branches(user: User) -> set[str]:
    """The branches of the user's fork."""

    return set(user.python("n.db.fetch('origin'); print(*n.db.remote_branches('origin'))").split())


def test_a_probe_reads_what_the_hub_does_and_changes_nothing(place):
    before = branches(place.ada)
    found = place.probe("--database", "acme/commons")
    assert found["generations of the API"]["answer"] == "v1alpha1, v2"
    assert "username" in found["fields of GET /user in v1alpha1"]["answer"]
    assert found["the list of v1alpha1 tells branches"]["answer"] == "no"
    assert found["the list of v2 tells branches"]["answer"] == "yes"
    assert found["page of pull requests in v1alpha1"]["answer"].startswith("1 on the first page")
    assert found["comments can be read"]["answer"] == "v2"
    assert found["headers for caching"]["answer"] == "cache-control"
    assert found["rate limits"]["answer"].startswith("none was hit")
    assert "a token may open a pull request" not in found
    assert branches(place.ada) == before


@pytest.mark.parametrize(
    ("spelling", "there", "missing"),
    [("old", "from_branch_name", "from_branch "), ("new", "from_branch ", "from_branch_name")],
)  # fmt: skip
def test_a_probe_tells_the_spelling_of_a_pull_request(place, spelling, there, missing):
    place.hub.faults(spelling=spelling)
    told = place.probe("--database", "acme/commons")["fields of one pull request in v1alpha1"]["answer"] + " "
    assert there in told
    assert missing not in told


def test_a_probe_tells_which_authorization_schemes_a_hub_takes(place):
    question = "authorization schemes that v1alpha1 takes"
    assert place.probe("--database", "acme/commons")[question]["answer"] == "token, Token, Bearer"
    place.hub.faults(token_header_case=True)
    assert place.probe("--database", "acme/commons")[question]["answer"] == "token"


def test_a_probe_that_may_write_takes_everything_away_again(place):
    before = branches(place.ada)
    found = place.probe("--database", "ada/commons", "--yes")
    for what in ("make a branch", "open a pull request", "comment", "merge a pull request"):
        assert found[f"a token may {what}"]["answer"] == "yes", what
    assert found["DOLT_BRANCH through the write API"]["answer"] == "refused"
    assert found["DOLT_MERGE through the write API"]["answer"] == "refused"
    assert found["fields of a comment in v2"]["answer"] == "id author body created_at"
    assert found["a fork that is there, asked for again"]["answer"] == "HTTP 400"
    assert found["what this probe made is gone"]["answer"] == "yes"
    assert branches(place.ada) == before


def test_a_probe_of_a_token_that_may_not_write_says_so_and_leaves_nothing(place):
    before = branches(place.ada)
    token = place.hub.wl("token", "add", "ada", "--read-only")["token"]
    place.hub.tokens["read-only"] = token
    asked = Place(place.hub, User("ada", place.ada.home, place.ada.env | {"WL_HUB_TOKEN": token}))
    found = asked.probe("--database", "ada/commons", "--yes")
    assert found["a token may make a branch"]["answer"] == "no"
    assert found["a token may open a pull request"]["answer"] == "no"
    assert found["what this probe made is gone"]["answer"] == "yes"
    assert branches(place.ada) == before


def test_requests_that_were_refused_for_their_number_are_counted(place):
    place.hub.faults(rate_limit=9)
    found = place.probe("--database", "acme/commons")
    assert "retry-after" in found["rate limits"]["answer"]


def refused(done: Done, code: int, said: str) -> None:
    assert (done.code, said in done.err) == (code, True), done.err
    assert "Traceback" not in done.err


def test_a_probe_writes_to_no_database_of_somebody_else_and_needs_one_named(place):
    before = branches(place.ada)
    probe = ("doctor", "--probe")
    refused(place.ada.wl(*probe, "--database", "acme/commons", "--yes"), 7, "not that of the token's holder")
    refused(place.ada.wl(*probe, "--yes"), 64, "--database")
    refused(place.ada.wl(*probe), 64, "--database")
    refused(place.ada.wl(*probe, "--fix"), 64, "--fix")
    refused(place.ada.wl("doctor", "--yes"), 64, "--probe")
    nobody = User("ada", place.ada.home, {"WL_HUB": place.hub.api})
    refused(nobody.wl(*probe, "--database", "ada/commons", "--yes"), 7, "no token")
    refused(place.ada.wl(*probe, "--hub", "http://127.0.0.1:1", "--database", "a/b"), 8, "does not answer")
    assert branches(place.ada) == before


def test_without_a_token_a_probe_reads_what_everybody_may(place):
    nobody = Place(place.hub, User("ada", place.ada.home, {"WL_HUB": place.hub.api}))
    found = nobody.probe("--database", "acme/commons")
    assert found["authorization schemes that v2 takes"]["answer"] == "none"
    assert found["the list of v2 tells branches"]["answer"] == "yes"
