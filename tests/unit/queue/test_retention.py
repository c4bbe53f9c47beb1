"""Which checkpoints are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.queue.jobs import Checkpoint
from service.queue.policy import Retention
from service.queue.retention import kept


def checkpoint(step: int, value: float | None = None) -> Checkpoint:
    metrics = {} if value is None else {"val/elbo": value, "val/distortion": value}
    return Checkpoint(attempt=1, step=step, uri=f"s3://b/{step}/", manifest_sha256="0" * 64, bytes=1, metrics=metrics)


def steps(found: tuple[Checkpoint, ...]) -> list[int]:
    return [c.step for c in found]


def test_the_last_and_the_best_before_it() -> None:
    history = [checkpoint(4, -100), checkpoint(3, -80), checkpoint(2, -90), checkpoint(1, -95)]
    stay = kept(history, Retention(keep_best=1))
    assert steps(stay) == [4, 3]
    assert [c.best for c in stay] == [False, True]
    assert steps(kept(history, Retention(keep_best=2))) == [4, 3, 2]
    assert steps(kept(history, Retention(keep_best=1))) == [4, 3]


def test_fault_07_the_smallest_distortion_is_kept() -> None:
    values = {4: 100.0, 3: 80.0, 2: 90.0, 1: 95.0}
    history = [checkpoint(step, value) for step, value in values.items()]
    stay = kept(history, Retention(keep_best=1, metric="val/distortion"))
    assert steps(stay) == [4, 3]
    assert [c.best for c in stay] == [False, True]


def test_when_the_last_is_the_best_there_is_one_to_fall_back_on() -> None:
    stay = kept([checkpoint(3, -70), checkpoint(2, -80), checkpoint(1, -90)], Retention(keep_best=1))
    assert steps(stay) == [3, 2]
    assert [c.best for c in stay] == [True, False]


def test_checkpoints_without_the_metric_rank_last_and_are_never_best() -> None:
    stay = kept([checkpoint(4), checkpoint(3), checkpoint(2), checkpoint(1, -500)], Retention(keep_best=2))
    assert steps(stay) == [4, 3, 1]
    assert [c.best for c in stay] == [False, False, True]
    assert not any(c.best for c in kept([checkpoint(2), checkpoint(1)], Retention()))


@given(
    st.lists(st.one_of(st.none(), st.integers(-5, 5)), min_size=1, max_size=12),
    st.integers(1, 4),
    st.sampled_from(["val/elbo", "val/distortion"]),
)
def test_one_commit_at_a_time_keeps_the_same_as_all_at_once(values: list[int | None], k: int, metric: str) -> None:
    """Giving up early never loses one that would have been kept: the best k so far hold the best k of all."""
    config = Retention(keep_best=k, metric=metric)
    history = [checkpoint(step, value) for step, value in enumerate(values)]
    held: tuple[Checkpoint, ...] = ()
    for new in history:
        held = kept((new, *held), config)
        assert held[0].step == new.step
        assert len(held) <= k + 1
    assert steps(held) == steps(kept(tuple(reversed(history)), config))
