"""The rules of a house, as a file says them."""

from __future__ import annotations

import tomllib

import pytest

from wasteland.errors import Misconfigured
from wasteland.rules.auto_land import VERBS, House, commented


def test_the_file_that_is_written_says_what_holds_without_one():
    assert House.parse(tomllib.loads(commented("acme/commons"))) == House() == House(VERBS, 1)


def test_a_house_may_ask_for_more():
    assert House.parse({"auto": ["post"], "approvals": 3}) == House(frozenset({"post"}), 3)
    assert House.parse({"auto": []}).auto == frozenset()


@pytest.mark.parametrize(
    "said",
    [{"auto": "post"}, {"auto": [1]}, {"auto": ["merge"]}, {"approvals": 0}, {"approvals": 21}, {"approvals": True},
     {"approvals": "2"}, {"aproved": 1}],
)  # fmt: skip
def test_what_the_file_cannot_say_is_refused(said):
    with pytest.raises(Misconfigured):
        House.parse(said)
