"""A log is read in pieces of bytes, and shown as text."""

from __future__ import annotations

import pytest

from service.log_text import decode_prefix


@pytest.mark.parametrize("text", ["plain", "Größe ≥ 5 µs", "🙂" * 3])
def test_text_is_never_cut_inside_a_character(text: str) -> None:
    data = text.encode()
    for cut in range(len(data) + 1):
        head, used = decode_prefix(data[:cut], final=False)
        rest, more = decode_prefix(data[used:], final=True)
        assert (head + rest, used + more) == (text, len(data))


def test_the_last_bytes_of_a_cut_off_log_are_shown_too() -> None:
    assert decode_prefix(b"ab\xe2\x82", final=True) == ("ab\ufffd", 4)
