"""Which trials of a stage begin together, and how packs take them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuning.pack import units
from tuning.pruners.specs import PRUNERS
from tuning.study import StageConfig, Trial, trials
from tuning.work_queue import WorkQueue
from vae_models.config.train import TrainConfig

BASE = TrainConfig.model_validate({"data": {"name": "digits"}, "epochs": 2, "model": {"backbone": {"kind": "mlp"}}})


def stage(candidates: int, seeds: int, pruning: str = "none", **space: Any) -> StageConfig:
    rates = [0.01 * 0.9**number for number in range(candidates)]
    fields = {"space": {"optimizer.lr": rates} | space, "repeats": list(range(seeds)), "pruning": {"kind": pruning}}
    return StageConfig.model_validate({"name": "rates"} | fields)


def queue(every: StageConfig, packs: int, ended: set[int] = frozenset()) -> WorkQueue[Trial]:  # type: ignore[assignment]
    left = [trial for trial in trials(every, BASE) if trial.number not in ended]
    return WorkQueue(units(left, every), packs)


def numbers(taken: list[Trial]) -> list[int]:
    return [trial.number for trial in taken]


def test_packs_that_fuse_all_share_twenty_one_trials_out_as_eleven_and_ten() -> None:
    """Each begins one, and more while wider stacks are faster: 2, 4, 8, all of its share."""
    twenty_one = queue(stage(7, 3), 2)
    begun = {0: 0, 1: 0}
    for width in (1, 2, 4, 8, 16):
        for pack in begun:
            begun[pack] += len(twenty_one.take(pack, width - begun[pack], begun[pack]))
    assert begun == {0: 11, 1: 10}
    assert [twenty_one.take(pack, 1) for pack in begun] == [[], []]


def test_groups_of_one_share_are_of_like_sizes() -> None:
    eleven = queue(stage(11, 1), 1)
    assert [len(eleven.take(0, 4)) for _ in range(4)] == [4, 4, 3, 0]


def test_a_pack_that_is_done_takes_over_what_the_other_has_not_begun() -> None:
    """The first pack stays in its first trial: the other has its own half and, half by half, all that waits."""
    ten = queue(stage(10, 1), 2)
    assert numbers(ten.take(0, 1)) == [0]
    assert numbers(ten.take(1, 5)) == [1, 2, 3, 4, 5]
    assert ten.take(1, 3, 1) == []  # it still has work
    assert [numbers(ten.take(1, 5)) for _ in range(4)] == [[6, 7], [8], [9], []]
    assert ten.take(0, 1) == []
    assert numbers(ten.taken(0)) == [0]  # what its process has again when it was killed
    assert sorted(numbers(ten.taken(1))) == list(range(1, 10))


@settings(max_examples=60, deadline=None)
@given(
    candidates=st.integers(1, 9),
    seeds=st.integers(1, 4),
    packs=st.integers(1, 5),
    kind=st.sampled_from(["none", "asha", "halving"]),
    sets=st.sampled_from([["digits"], ["digits", "pendulum"]]),
    ended=st.sets(st.integers(0, 40)),
    asked=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 8), st.integers(0, 2)), max_size=30),
)
def test_however_packs_ask_every_trial_is_handed_out_once(
    candidates: int, seeds: int, packs: int, kind: str, sets: list[str], ended: set[int],
    asked: list[tuple[int, int, int]],
) -> None:  # fmt: skip
    every = stage(candidates, seeds, kind, **{"data.name": sets})
    left = queue(every, packs, ended)
    handed: list[int] = []
    last: dict[int, list[Trial]] = {}
    for pack, most, running in [*asked, *((pack, 3, 0) for _ in range(100) for pack in range(packs))]:
        if pack >= packs:
            continue
        runs = running if last.get(pack) else 0
        taken = left.take(pack, most, runs)
        assert len({trial.config.data.name for trial in [*taken, *(last[pack] if runs else [])]}) <= 1
        if kind == "none":
            assert len(taken) <= most
        for candidate in {(trial.config.data.name, trial.candidate) for trial in taken} if kind != "none" else ():
            together = [t.number for t in trials(every, BASE) if (t.config.data.name, t.candidate) == candidate]
            assert {number for number in together if number not in ended} <= set(numbers(taken))
        handed += numbers(taken)
        last[pack] = taken or last.get(pack, [])
    assert sorted(handed) == [trial.number for trial in trials(every, BASE) if trial.number not in ended]


@pytest.mark.parametrize("kind", [kind for kind, spec in PRUNERS.all().items() if spec.prunes])
def test_seeds_whose_mean_decides_begin_together(kind: str) -> None:
    every = stage(5, 3, kind)
    (of_digits,) = units(list(trials(every, BASE)), every)
    assert [trial.number for unit in of_digits for trial in unit] == list(range(15))
    of_candidate = defaultdict(set)
    for place, unit in enumerate(of_digits):
        for trial in unit:
            of_candidate[trial.candidate].add(place)
    assert all(len(places) == 1 for places in of_candidate.values())
    assert len(of_digits) == (1 if PRUNERS.all()[kind].compares else 5)


def test_the_longest_begin_first_and_shapes_side_by_side() -> None:
    every = stage(2, 1, epochs=[1.0, 3.0], **{"model.latent": [2, 4]})
    (of_digits,) = units(list(trials(every, BASE)), every)
    found = [(trial.config.epochs, trial.config.model.latent) for (trial,) in of_digits]  # type: ignore[attr-defined]
    assert found == [(3.0, 2)] * 2 + [(3.0, 4)] * 2 + [(1.0, 2)] * 2 + [(1.0, 4)] * 2
