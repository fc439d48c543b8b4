"""Manifests of evidence: what is signed stays readable, and what strangers make up is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wasteland.errors import BadSignature
from wasteland.orders import Gate, WorkReport
from wasteland.trust.manifest import (
    Part,
    Report,
    State,
    blob_manifest,
    checked_manifest,
    git_manifest,
    lines_of,
    url_manifest,
)
from wasteland.trust.statements import manifest_digest, text_manifest

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
SHA, A, B = "5" * 64, "a" * 40, "b" * 40
RANGE = {"v": 1, "kind": "git", "uri": "u", "repo": "r", "base": A, "head": B}
FIRST = RANGE | {"patch_sha256": SHA}
GIT = RANGE | {"format": 2, "changes_sha256": SHA}
BLOB = {"v": 1, "kind": "blob", "uri": "u", "sha256": SHA, "size": 3}
URL = {"v": 1, "kind": "url", "uri": "https://github.com/o/r"}
GATE = {"argv": ["make", "test"], "exit": 0, "log_sha256": SHA}


def test_the_signed_vector_is_read_as_it_is() -> None:
    signed = VECTORS["evidence_manifest"]["object"]

    assert checked_manifest(signed) == signed
    assert manifest_digest(checked_manifest(signed)) == VECTORS["evidence_manifest"]["sha256"]


@pytest.mark.parametrize("text", ["done", "https://example.com/pr/7", "zwei\nZeilen ü", "x" * 8192])
def test_what_is_signed_of_texts_today_is_a_manifest(text: str) -> None:
    assert checked_manifest(text_manifest(text)) == text_manifest(text)


def test_what_a_work_report_signs_is_a_manifest() -> None:
    gates = [Gate(["make", "test"], 1, SHA)]
    for report in (
        WorkReport("w-1", "landed", "/r", A, B, SHA),
        WorkReport("w-1", "landed", "/r", A, B, SHA, "", gates),
        WorkReport("w-1", "landed", "/r", A, B, gates=gates, schema_version=2, changes_sha256=SHA),
    ):
        assert checked_manifest(report.manifest()) == report.manifest()


@pytest.mark.parametrize(
    "found",
    [
        BLOB | {"media_type": "text/plain"}, BLOB | {"size": 0}, URL,
        URL | {"sha256": SHA, "size": 3, "media_type": "text/html"}, URL | {"repo": "r", "head": A},
        GIT | {"gates": [GATE]}, GIT, FIRST, FIRST | {"gates": [GATE]},
    ],
)  # fmt: skip
def test_every_kind_has_a_form_that_is_taken(found: dict[str, Any]) -> None:
    assert checked_manifest(found) == found


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (None, "version 1"), ([], "version 1"), ("text", "version 1"), (GIT | {"v": 2}, "version 1"),
        (GIT | {"v": True}, "version 1"), (GIT | {"v": "1"}, "version 1"), (GIT | {"kind": "tar"}, "tar"),
        (GIT | {"kind": None}, "kind"), (GIT | {"kind": ["git"]}, "kind"), (GIT | {"extra": 1}, "extra"),
        (GIT | {"sha256": SHA}, "sha256"), (BLOB | {"head": A}, "head"), (text_manifest("x") | {"size": 1}, "size"),
        (GIT | {"head": A[:39]}, "head"), (GIT | {"head": A.upper()}, "head"), (GIT | {"base": None}, "base"),
        (FIRST | {"patch_sha256": 5}, "patch_sha256"), (GIT | {"patch_sha256": SHA}, "patch_sha256"),
        (FIRST | {"changes_sha256": SHA}, "changes_sha256"), (GIT | {"changes_sha256": "x"}, "changes_sha256"),
        (GIT | {"format": 3}, "format"), (GIT | {"format": True}, "format"), (FIRST | {"format": 1}, "patch_sha256"),
        (GIT | {"repo": "a\nb"}, "repo"), (GIT | {"repo": ""}, "repo"),
        (GIT | {"uri": "a\u202eb"}, "uri"), (GIT | {"uri": "u" * 2001}, "uri"), (GIT | {"head": A + "\n"}, "head"),
        (GIT | {"gates": []}, "gates"), (GIT | {"gates": [GATE] * 51}, "gates"), (GIT | {"gates": {}}, "gates"),
        (GIT | {"gates": [GATE | {"argv": "make"}]}, "gates"), (GIT | {"gates": [GATE | {"exit": "0"}]}, "gates"),
        (GIT | {"gates": [GATE | {"more": 1}]}, "gates"), (GIT | {"gates": [GATE | {"exit": True}]}, "gates"),
        (GIT | {"gates": [GATE | {"exit": 2**60}]}, "integer"), (BLOB | {"size": -1}, "size"),
        (BLOB | {"size": True}, "size"), (BLOB | {"size": 3.0}, "size"), (BLOB | {"size": 2**53}, "size"),
        (BLOB | {"media_type": "text/html; charset=x"}, "media_type"), (URL | {"sha256": SHA}, "pair"),
        (URL | {"size": 3}, "pair"), (URL | {"head": A}, "pair"), (URL | {"repo": "r"}, "pair"),
        (text_manifest("https://a.b/c") | {"sha256": SHA}, "not the text"),
        (text_manifest("x") | {"uri": "javascript:x"}, "uri"), ({"v": 1, "kind": "text", "uri": ""}, "sha256"),
        ({k: v for k, v in GIT.items() if k != "repo"}, "repo"), (GIT | {"\x1b[31m": 1}, "\\x1b"),
    ],
)  # fmt: skip
def test_what_is_not_a_manifest_is_refused_with_a_sentence(found: Any, told: str) -> None:
    with pytest.raises(BadSignature, match=r"^(the evidence manifest|a signed document) ") as refused:
        checked_manifest(found)

    assert told in refused.value.message
    assert refused.value.message.isprintable()


@pytest.mark.parametrize("found", [GIT, FIRST, BLOB, URL | {"sha256": SHA, "size": 3}, text_manifest("x")])
def test_a_manifest_without_one_of_its_fields_is_refused(found: dict[str, Any]) -> None:
    for name in found:
        with pytest.raises(BadSignature):
            checked_manifest({k: v for k, v in found.items() if k != name})


def test_builders_refuse_what_readers_would() -> None:
    with pytest.raises(BadSignature):
        blob_manifest(uri="a\nb", sha256=SHA, size=1)
    with pytest.raises(BadSignature):
        url_manifest(uri="https://a.b", head=A)
    with pytest.raises(BadSignature):
        git_manifest(uri="u", repo="r", base=A, head=B, changes_sha256="x")
    assert git_manifest(uri="u", repo="r", base=A, head=B, changes_sha256=SHA) == GIT


def test_a_manifest_is_shown_a_fact_a_line() -> None:
    told = lines_of(GIT | {"gates": [GATE | {"argv": ["a\n  kind  text"]}]})

    assert told[0].split() == ["kind", "git"]
    assert len(told) == 7
    assert all(one.isprintable() for one in told)


@pytest.mark.parametrize(
    ("states", "code"),
    [
        ([State.SAME], 0), ([State.SAME, State.UNCHECKED], 3), ([State.SAME, State.CHANGED], 1),
        ([State.UNCHECKED, State.GONE], 1), ([State.GONE], 1), ([State.UNCHECKED], 3),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_worst_part(states: list[State], code: int) -> None:
    parts = [Part("x", state, "why") for state in states]

    assert Report("c-1", "w-1", "rig", "git", tuple(parts)).exit_code == code
    told = Part("gates", State.CHANGED, "why", decides=False)
    assert Report("c-1", "w-1", "rig", "git", (*parts, told)).exit_code == code
