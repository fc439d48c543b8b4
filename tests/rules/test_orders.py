"""The seam to an engine: any report is read whole or refused with a sentence."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasteland.errors import Usage
from wasteland.orders import WorkOrder, WorkReport, changes_sha256, parse_report
from wasteland.text import show

GATE = {"argv": ["make", "test"], "exit": 0, "log_sha256": "a" * 64}
REPORT = {
    "wanted_id": "w-1", "outcome": "landed", "repo": "https://example.com/r.git", "base": "0" * 40, "head": "1" * 40,
    "patch_sha256": "2" * 64, "uri": "https://example.com/pr/7", "gates": [GATE], "sandbox_level": "L3",
    "sandbox_network": "none", "wall_seconds": 7, "schema_version": 1,
}  # fmt: skip
SECOND = {name: value for name, value in REPORT.items() if name != "patch_sha256"} | {
    "changes_sha256": "3" * 64, "schema_version": 2}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def read(value):
    """The report, or the sentence that refuses it."""
    try:
        return parse_report(value if isinstance(value, str) else json.dumps(value))
    except Usage as error:
        return show(error.message)


def test_a_report_comes_back_as_it_was_written():
    for written in (REPORT, SECOND):
        report = parse_report(json.dumps(written))
        assert report.to_json() == written
        assert parse_report(json.dumps(report.to_json())) == report


def test_the_manifest_names_what_the_host_measured():
    made = parse_report(json.dumps(REPORT)).manifest()
    assert made["gates"] == [GATE]
    assert {name: made[name] for name in ("kind", "base", "head", "uri")} == {
        "kind": "git", "base": "0" * 40, "head": "1" * 40, "uri": REPORT["uri"]}  # fmt: skip
    without = parse_report(json.dumps(REPORT | {"uri": "", "gates": []})).manifest()
    assert without["uri"] == f"{REPORT['repo']}#{'1' * 40}"
    assert "gates" not in without
    assert made["patch_sha256"] == REPORT["patch_sha256"]
    second = parse_report(json.dumps(SECOND)).manifest()
    assert (second["format"], second["changes_sha256"]) == (2, "3" * 64)
    assert "patch_sha256" not in second


@pytest.mark.parametrize(
    "place", ["/home/ada/r.git", "file:///home/ada/r.git", "/home/ada/r.git/", "git+file:///srv/r.git"]
)
def test_a_path_of_the_workers_machine_is_published_on_request_only(place):
    report = parse_report(json.dumps(REPORT | {"repo": place, "uri": ""}))
    assert (report.manifest()["repo"], report.manifest()["uri"]) == ("r.git", f"r.git#{'1' * 40}")
    assert report.manifest(paths=True)["repo"] == place
    named = parse_report(json.dumps(REPORT | {"repo": "/", "uri": f"{place}#main"})).manifest()
    assert named["repo"] == "repository"
    assert "/" not in named["uri"]


@pytest.mark.parametrize(
    "change",
    [
        {"changes_sha256": ""}, {"patch_sha256": "2" * 64}, {"schema_version": 1}, {"schema_version": 3},
        {"schema_version": True}, {"changes_sha256": None},
    ],
)  # fmt: skip
def test_a_report_has_the_digest_of_its_version_and_no_other(change):
    assert isinstance(read(SECOND | change), str)


LISTED = (
    b":100644 100755 " + b"a" * 40 + b" " + b"b" * 40 + b" M\0b.txt\0"
    b":000000 120000 " + b"0" * 40 + b" " + b"c" * 40 + b" A\0a/\xff\n\0"
)


def test_the_digest_of_changes_is_over_modes_objects_and_paths_in_order():
    made = b"000000 %s 120000 %s\ta/\xff\n\0" % (b"0" * 40, b"c" * 40)
    made += b"100644 %s 100755 %s\tb.txt\0" % (b"a" * 40, b"b" * 40)

    assert changes_sha256(LISTED) == hashlib.sha256(made).hexdigest()
    assert changes_sha256(b"") == hashlib.sha256(b"").hexdigest()
    for wrong in (LISTED[:-1], LISTED[:-9], LISTED.replace(b"M", b"R100"), LISTED.replace(b"a" * 40, b"a" * 7), b"x\0"):
        with pytest.raises(ValueError, match="listing of changes"):
            changes_sha256(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"wanted_id": 5}, {"wanted_id": "a\nb"}, {"wanted_id": "\ud800"}, {"repo": None}, {"repo": "x\x1b[31m"},
        {"uri": "a\u202eb"}, {"uri": "u" * 100_000}, {"outcome": "done"}, {"outcome": []}, {"base": "0" * 39},
        {"base": "0" * 40 + "\n"}, {"head": "G" * 40}, {"head": None}, {"patch_sha256": 5}, {"sandbox_level": "L9"},
        {"sandbox_level": {}}, {"sandbox_network": []}, {"schema_version": 2}, {"schema_version": "1"},
        {"wall_seconds": "7"}, {"wall_seconds": -1}, {"wall_seconds": True}, {"wall_seconds": 1e9}, {"gates": 5},
        {"gates": {"argv": 1}}, {"gates": ["x"]}, {"gates": [{}]}, {"gates": [GATE | {"argv": 5}]},
        {"gates": [GATE | {"argv": "make"}]}, {"gates": [GATE | {"argv": [5]}]},
        {"gates": [GATE | {"argv": ["\udfff"]}]},
        {"gates": [GATE | {"exit": "0"}]}, {"gates": [GATE | {"exit": True}]}, {"gates": [GATE | {"log_sha256": ""}]},
        {"gates": [GATE | {"more": 1}]}, {"gates": [GATE] * 51}, {"gates": None}, {"unknown": 1},
    ],
    ids=lambda change: repr(change)[:40],
)  # fmt: skip
def test_a_report_with_a_wrong_field_is_refused_with_a_sentence(change):
    said = read(REPORT | change)
    assert isinstance(said, str)
    assert 0 < len(said) < 300


@pytest.mark.parametrize("missing", ["wanted_id", "outcome", "repo", "base", "head", "patch_sha256"])
def test_a_report_without_a_field_is_refused(missing):
    assert isinstance(read({name: value for name, value in REPORT.items() if name != missing}), str)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "5", '"x"', "[" * 100_000, '{"a":' * 100_000, "9" * 5000, "\ufeff{}"],
    ids=lambda text: text[:8],
)
def test_what_is_no_object_is_refused(text):
    assert isinstance(read(text), str)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.sampled_from(sorted(REPORT)), JSON)
def test_any_value_in_any_field_is_read_or_refused(field, value):
    said = read(REPORT | {field: value})
    if isinstance(said, WorkReport):
        assert said.to_json()[field] == value
        json.dumps(said.manifest(), allow_nan=False).encode()


@settings(deadline=None, max_examples=200, derandomize=True)
@given(JSON | st.text())
def test_any_json_is_read_or_refused(value):
    assert isinstance(read(value), str)


def test_an_order_is_plain_json():
    order = WorkOrder("w-1", "t", "line\n\x1b[31m", "worker", "poster")
    assert json.loads(json.dumps(order.to_json()))["schema_version"] == 1
