"""How long ago the loop came by."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.attempt.pulse import Heart


@given(gaps=st.lists(st.floats(0.01, 1000), min_size=1, max_size=20), idle=st.floats(0, 1000))
def test_it_is_the_time_since_the_last_beat_and_the_longest_between_two(gaps: list[float], idle: float) -> None:
    now = 5.0
    heart = Heart(lambda: now)
    assert not heart.read().watched
    heart.beat()
    assert not heart.read().watched  # how long a step takes is not known yet
    for gap in gaps:
        now += gap
        heart.beat()
    now += idle
    pulse = heart.read()
    assert pulse.watched
    assert abs(pulse.idle_seconds - idle) < 1e-6
    assert abs(pulse.usual_seconds - max(gaps)) < 1e-6
    heart.rest()
    assert not heart.read().watched
