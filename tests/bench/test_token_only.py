"""The targets of `scripts/bench --hub --token-only`, small."""

from __future__ import annotations

import pytest

from tests.bench.token_only import MOST, TokenOnly
from tests.hubs import GENERATIONS


@pytest.mark.long
@pytest.mark.parametrize("api", GENERATIONS)
def test_no_verb_without_a_key_makes_more_requests_than_it_may(tmp_path, api):
    bench = TokenOnly(tmp_path, pulls=2, api=api)
    try:
        found = bench.measured(1)
    finally:
        bench.stop()
    assert set(found) == set(MOST)
    assert {name: calls for name, calls in found.items() if calls > MOST[name]} == {}
