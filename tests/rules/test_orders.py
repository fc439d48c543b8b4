"""The seam to an engine: any report is read whole or refused with a sentence."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasteland.errors import Usage
from wasteland.orders import WorkOrder, WorkReport, parse_report
from wasteland.text import show

GATE = {"argv": ["make", "test"], "exit": 0, "log_sha256": "a" * 64}
REPORT = {
    "wanted_id": "w-1", "outcome": "landed", "repo": "https://example.com/r.git", "base": "0" * 40, "head": "1" * 40,
    "patch_sha256": "2" * 64, "uri": "https://example.com/pr/7", "gates": [GATE], "sandbox_level": "L3",
    "sandbox_network": "none", "wall_seconds": 7, "schema_version": 1,
}  # fmt: skip
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
    report = parse_report(json.dumps(REPORT))
    assert report.to_json() == REPORT
    assert parse_report(json.dumps(report.to_json())) == report


def test_the_manifest_names_what_the_host_measured():
    made = parse_report(json.dumps(REPORT)).manifest()
    assert made["gates"] == [GATE]
    assert {name: made[name] for name in ("kind", "base", "head", "uri")} == {
        "kind": "git", "base": "0" * 40, "head": "1" * 40, "uri": REPORT["uri"]}  # fmt: skip
    without = parse_report(json.dumps(REPORT | {"uri": "", "gates": []})).manifest()
    assert without["uri"] == f"{REPORT['repo']}#{'1' * 40}"
    assert "gates" not in without


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
