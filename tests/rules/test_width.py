"""Tables stay aligned whatever letters they hold."""

from __future__ import annotations

import subprocess
import sys

import pytest
import wcwidth
from hypothesis import given
from hypothesis import strategies as st

from wasteland.cli.output import cell
from wasteland.text import cut, show, width

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FLAG = "\U0001f1e9\U0001f1ea"
LETTERS = st.text(
    st.sampled_from(
        "aZ9 \u00e9\u4e2d\uff21\uac00\u0301\u0e01\u0e47\u0928\u093f\u05d0\U0001f600\ufe0f\U0001f1e9\U0001f1ea"
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("tide", 4),
        ("\u6f6e\u6c50", 4),
        ("\u00e9", 1),
        ("e\u0301", 1),
        ("\u0e01\u0e47", 1),
        (FAMILY, 2),
        (FLAG, 2),
        ("", 0),
    ],
)
def test_a_text_is_as_wide_as_a_terminal_shows_it(text, columns):
    assert width(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "left"),
    [("\u6f6e" * 5, 10, "\u6f6e" * 5),
     ("\u6f6e" * 6, 10, "\u6f6e" * 3 + "..."), ("\u6f6e" * 6, 9, "\u6f6e" * 3 + "..."),
     ("e\u0301" * 6, 5, "e\u0301" * 2 + "..."), (FLAG * 4, 6, FLAG + "..."), ("abcdef", 5, "ab...")],
)  # fmt: skip
def test_what_is_cut_off_is_whole_letters(text, columns, left):
    assert cut(text, columns) == left


@given(LETTERS, st.integers(4, 40))
def test_a_cell_takes_exactly_its_columns(text, columns):
    assert wcwidth.width(cell(text, columns)) == columns
    shown = show(text)
    kept = cut(shown, columns).removesuffix("...") if wcwidth.width(shown) > columns else shown
    assert (
        list(wcwidth.iter_graphemes(kept))
        == list(wcwidth.iter_graphemes(shown))[: len(list(wcwidth.iter_graphemes(kept)))]
    )


def test_the_tables_of_letters_are_read_only_where_they_are_needed():
    words = "import sys; from wasteland.text import cut, width; width('Gezeiten \u00fcber'); cut('tide' * 9, 9)"
    done = subprocess.run(
        [sys.executable, "-c", words + "; print('wcwidth' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout == "False\n"
