"""The latent's evaluators on two real gloo processes, and on one: the same values on every worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests import gangs, linear_model, subjects
from vae_models.data.spec import LabelSpec
from vae_models.evaluation.latent.specs import OURS
from vae_models.evaluation.subject import Subject
from vae_models.priors.specs import VHPConfig

QUICK: dict[str, dict[str, Any]] = {"scatter": {"tsne": False}, "disentanglement": {"trees": 5}}
KINDS = [spec.model_fields["kind"].default for spec in OURS]


def _work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    (folder / f"{rank}.json").write_text(json.dumps(_found(batch_size=24)))
    dist.destroy_process_group()


def _found(**plan: object) -> dict[str, Any]:
    """Every evaluator's values and errors, by kind; one worker has a batch more than the other."""
    found: dict[str, Any] = {}
    for subject in (_digits(**plan), _turning(("angle",), **plan), _turning(("angle", "height"), **plan)):
        for spec in (part(**QUICK.get(part.model_fields["kind"].default, {})) for part in OURS):
            if spec.kind not in found and not list(spec.refusals(subject.config)):
                values = spec.build()(subject).values
                found[spec.kind] = {value.name: [value.value, value.error or 0.0] for value in values}
    return found


def _digits(**plan: object) -> Subject:
    return subjects.digits(prior=VHPConfig(importance_samples=2, hidden=(8,)), latent=3, limit=100, **plan)


def _turning(names: tuple[str, ...], **plan: object) -> Subject:
    """A linear model of x on an ellipse, labelled with the angle, or with the angle and the second element."""
    angles = torch.arange(100) * 0.7
    x = torch.stack([angles.cos(), 0.6 * angles.sin(), 0 * angles, 0 * angles], 1)
    labels = torch.stack([angles, x[:, 1]], 1)[:, : len(names)].squeeze(1)
    spec = LabelSpec(name=names if len(names) > 1 else names[0], unit="rad")
    return linear_model.subject(x, train=x, labels=(labels, labels), spec=spec, **plan)


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("gang")
    gangs.run(_work, (2, folder), 2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return _found(batch_size=100)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_each_of_two_workers_finds_what_one_does(
    gang: list[dict[str, Any]], alone: dict[str, Any], kind: str, rank: int
) -> None:
    assert set(gang[rank][kind]) == set(alone[kind])
    for name, (value, error) in alone[kind].items():
        close = [pytest.approx(value, rel=1e-9), pytest.approx(error, rel=1e-6, abs=1e-12)]
        assert gang[rank][kind][name] == close, name
