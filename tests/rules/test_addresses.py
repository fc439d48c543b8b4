"""Addresses lose what is secret in them, and nothing else; any text comes through."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasteland.addresses import without_secrets
from wasteland.text import checked, masked

GH = "ghp_" + "a1B2c3D4" * 4
SECRET = "S3cretTokenOfBob"


@pytest.mark.parametrize(
    ("written", "public"),
    [
        (f"https://bob:{SECRET}@git.example.org/bob/r.git", "https://git.example.org/bob/r.git"),
        (f"see HTTPS://{SECRET}@h.example:8443/r, please", "see HTTPS://h.example:8443/r, please"),
        (f"https://bob:{SECRET}@x@h.example/r", "https://h.example/r"),
        (f"https://bob:a/{SECRET}@h.example/r", "https://h.example/r"),
        (f"https://bob:a#{SECRET}?@h.example/r", "https://h.example/r"),
        (f"https://bob:{SECRET}'\"@h.example/r", "https://h.example/r"),
        (f"git+https://bob:{SECRET}@h.example/r.git", "git+https://h.example/r.git"),
        (f"ssh://git:{SECRET}@h.example:22/r", "ssh://git@h.example:22/r"),
        (f"bob:{SECRET}@h.example:o/r.git", "bob@h.example:o/r.git"),
        (f"/home/x/bob:{SECRET}@h.example/r.git", "/home/x/bob@h.example/r.git"),
        (f"//bob:{SECRET}@h.example/r", "//h.example/r"),
        (f"https://h.example/r?access_token={SECRET}", "https://h.example/r"),
        (f"https://h.example/r?a=1&private-token={SECRET}&b=2#top", "https://h.example/r?a=1&b=2#top"),
        (f"https://h.example/r?X-Amz-Signature={SECRET}&v=3", "https://h.example/r?v=3"),
        (f"(https://h.example/r?sig={SECRET}).", "(https://h.example/r)."),
        (f"https://h.example/r?pass%77ord={SECRET}", "https://h.example/r"),
        (f"https://h.example/r?q={GH}", "https://h.example/r"),
        (f"https://h.example/?to=https%3A%2F%2Fu%3A{SECRET}%40h.example%2F&x=1", "https://h.example/?x=1"),
        (f"https://h.example/r#access_token={SECRET}&state=1", "https://h.example/r#state=1"),
        (f"https://h.example/app#/r?token={SECRET}", "https://h.example/app#/r"),
        (f"https://h.example/r;jsessionid={SECRET}/x?y=1", "https://h.example/r/x?y=1"),
        (f"https://h.example/{GH}/r.git", "https://h.example/…/r.git"),
        (f"https://{GH}.h.example/r", "https://….h.example/r"),
        (f"one https://a:{SECRET}@h.example/1\ntwo https://h.example/2?token={SECRET}", "one https://h.example/1\ntwo https://h.example/2"),
    ],
)  # fmt: skip
def test_an_address_is_published_without_what_is_secret_in_it(written: str, public: str) -> None:
    assert without_secrets(written) == public
    assert without_secrets(public) == public
    assert checked(written, "message") == public
    for secret in (SECRET, GH):
        assert secret not in masked(written)


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/o/r/pull/7?diff=split&w=1#discussion_r1", "git@github.com:o/r.git", "ssh://git@h.example/r",
        "https://h.example/@scope/pkg@1.2?mail=a@b.example", "mail a@b.example, or mailto:a@b.example/x", "12:30@home",
        "http://[::1]:8080/x@y", "https://h.example:8080/x:y", "aws://[table:bucket]/acme/commons", "a // b@c: d",
        "file:///home/ada/r.git#" + "a" * 40, "https://h.example/commit/" + "0f" * 20 + "?author=ada&page=2",
        "x?token=1", "https://h.example/r?", "https://h.example/r#",
    ],
)  # fmt: skip
def test_what_is_not_secret_stays(text: str) -> None:
    assert without_secrets(text) == text
    assert masked(text) == text


def test_what_was_hidden_is_marked_in_messages() -> None:
    assert masked(f"at https://u:{SECRET}@h.example/a?token={SECRET}: no") == "at https://…@h.example/a?token=…: no"
    assert masked(f"ssh://git:{SECRET}@h.example") == "ssh://git:…@h.example"
    assert masked(f"bob:{SECRET}@h.example:r") == "bob:…@h.example:r"


PIECES = st.sampled_from(
    ["https://", "//", "a", ":", "@", "/", "?", "#", "&", "=", ";", "token", " ", "%40", "ssh://", "…", "[", "]", "."]
)


@settings(deadline=None, max_examples=400, derandomize=True)
@given(st.one_of(st.text(), st.lists(PIECES, max_size=25).map("".join)))
def test_any_text_is_taken_and_none_is_changed_twice(text: str) -> None:
    once = without_secrets(text)
    assert without_secrets(once) == once
    masked(text)


@pytest.mark.parametrize(
    "piece", ["a", "a:", "//", "https://a:", "@", "a:b@", "?token=", "&x=https%3A%2F%2F", ";a=", "eyJaaaaaa.", "a.b-"]
)
def test_a_long_text_takes_no_long_time(piece: str) -> None:
    text = "https://h/" + piece * (100_000 // len(piece))
    began = time.monotonic()
    without_secrets(text)
    without_secrets(piece * (100_000 // len(piece)))
    assert time.monotonic() - began < 2
