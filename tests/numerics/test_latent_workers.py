"""The latent's evaluators on two real gloo processes, and on one: the same values on every worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests import gangs, subjects
from vae_models.evaluation.latent.specs import OURS
from vae_models.priors.specs import VHPConfig

KINDS = [spec.model_fields["kind"].default for spec in OURS]


def _work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    (folder / f"{rank}.json").write_text(json.dumps(_found(batch_size=24)))
    dist.destroy_process_group()


def _found(**plan: object) -> dict[str, Any]:
    """Every evaluator's values and errors; limit and batch size are such that one worker has a batch more."""
    subject = subjects.digits(prior=VHPConfig(importance_samples=2, hidden=(8,)), latent=2, limit=100, **plan)
    suiting = [spec() for spec in OURS if not list(spec().refusals(subject.config))]
    return {
        spec.kind: {value.name: [value.value, value.error or 0.0] for value in spec.build()(subject).values}
        for spec in suiting
    }


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("gang")
    gangs.run(_work, (2, folder), 2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return _found(batch_size=100)


def test_workers_find_the_same(gang: list[dict[str, Any]]) -> None:
    assert gang[0] == gang[1]


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_find_what_one_does(gang: list[dict[str, Any]], alone: dict[str, Any], kind: str) -> None:
    if kind not in alone:
        pytest.skip("digits do not suit it")
    assert set(gang[0][kind]) == set(alone[kind])
    for name, (value, error) in alone[kind].items():
        assert gang[0][kind][name] == [pytest.approx(value, rel=1e-9), pytest.approx(error, rel=1e-6)], name
