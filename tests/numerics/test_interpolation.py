"""Ways between the latents of data: closed forms of a linear decoder, whatever the batches and the workers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import cast

import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from tests import catalogue, gangs, subjects
from vae_models.config.train import TrainConfig
from vae_models.evaluation.findings import Findings
from vae_models.evaluation.interpolation.evaluator import InterpolationEvaluator
from vae_models.evaluation.interpolation.specs import InterpolationEvaluation
from vae_models.evaluation.interpolation.ways import pairs
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.metrics import paths

SMALL = {"nodes": 60, "neighbours": 8, "pairs": 9, "steps": 6, "shown": 2}


def found(subject: Subject, **settings: int) -> Findings:
    evaluator = InterpolationEvaluation.model_validate(SMALL | settings).build()
    assert isinstance(evaluator, InterpolationEvaluator)
    return evaluator(subject)


def values(findings: Findings) -> dict[str, float]:
    return {value.name: value.value for value in findings.values}


def linear(**plan: object) -> Subject:
    subject = subjects.digits(hidden=(), likelihood=GaussianConfig(), **plan)
    torch.nn.init.normal_(_weight(subject), generator=torch.Generator().manual_seed(0))
    return subject


def _weight(subject: Subject) -> Tensor:
    decoder = cast(nn.Module, subject.module.backbone).decoder  # type: ignore[union-attr]
    (weight,) = [module.weight for module in cast(nn.Module, decoder).modules() if isinstance(module, nn.Linear)]
    return weight


def test_a_linear_decoders_lengths_are_known() -> None:
    subject = linear()
    starts, ends = pairs(subject, 9)
    weight = _weight(subject).detach()
    line = ((ends - starts) @ weight.T).norm(dim=1)
    findings = found(subject)
    by_name = {value.name: value for value in findings.values}
    assert by_name["path_length/linear"].value == pytest.approx(float(line.mean()), rel=1e-12)
    assert by_name["path_length/linear"].error == pytest.approx(float(line.std()) / 3, rel=1e-12)
    assert by_name["largest_step/linear"].value == pytest.approx(float(line.mean()) / 5, rel=1e-10)
    assert by_name["step_ratio/linear"].value == pytest.approx(1, rel=1e-10)
    assert by_name["path_length_ratio/slerp"].value > 1
    assert by_name["path_length_ratio/graph"].value >= 1 - 1e-12
    arcs = paths.path(starts, ends, 2000, "slerp")
    chords = ((arcs[:, 1:] - arcs[:, :-1]) @ weight.T).norm(dim=2).sum(1)
    assert by_name["path_length/slerp"].value == pytest.approx(float(chords.mean()), rel=5e-3)
    (table,) = findings.tables
    assert [row[0] for row in table.rows] == ["linear", "slerp", "graph"]
    assert table.rows[2][1] == by_name["path_length/graph"].value
    assert all(len(row) == len(table.columns) for row in table.rows)


def scaled(factor: float) -> Subject:
    """Encodings that lie so many times as far apart."""
    subject = subjects.digits()
    with torch.no_grad():
        for parameter in subject.space.backbone.encoder.parameters():  # type: ignore[attr-defined]
            parameter.mul_(factor)
    return subject


def test_no_datum_is_in_two_pairs_and_the_seed_chooses_them() -> None:
    subject, other = subjects.digits(), subjects.digits(seed=1)
    starts, ends = pairs(subject, 100)
    assert len(torch.cat([starts, ends]).unique(dim=0)) == 200
    assert not torch.equal(starts, pairs(other, 100)[0])
    torch.testing.assert_close(pairs(subject, 7)[0], starts[:7])
    assert len(pairs(subjects.digits(limit=9), 100)[0]) == 4


# --- workers and batches --------------------------------------------------------------------------------------------


def _work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    findings = found(subjects.digits(batch_size=19))
    torch.save((values(findings), [picture.png for picture in findings.pictures]), folder / f"found-{rank}.pt")
    dist.destroy_process_group()


def test_neither_workers_nor_batches_change_a_value_or_a_picture(tmp_path: Path) -> None:
    alone = found(subjects.digits(batch_size=512))
    gangs.run(_work, (2, tmp_path), 2)
    for rank in range(2):
        by_name, pngs = torch.load(tmp_path / f"found-{rank}.pt", weights_only=True)
        assert by_name == pytest.approx(values(alone), rel=1e-9)
        assert pngs == [picture.png for picture in alone.pictures]


# --- pictures -------------------------------------------------------------------------------------------------------


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        return image.size


def test_each_pairs_ways_stand_under_one_another() -> None:
    (strips,) = found(subjects.digits()).pictures
    width, height = size(strips.png)
    assert height >= 6 * 66 + 8
    assert 6 * 66 < width < 6 * 66 + 80
    assert strips.name == "interpolation"


def test_a_plane_of_z_is_drawn() -> None:
    names = [picture.name for picture in found(subjects.digits(latent=2)).pictures]
    assert names == ["interpolation", "interpolation-plane"]
    assert found(subjects.digits(latent=2), shown=0).pictures == ()


# --- what cannot be -------------------------------------------------------------------------------------------------


def test_pairs_that_the_graph_does_not_connect_are_named_and_left_out() -> None:
    findings = found(scaled(10), nodes=200, neighbours=1)
    assert any("pairs are not connected by the graph of 200 nodes and 1 neighbours" in note for note in findings.notes)
    by_name = {value.name: value for value in findings.values}
    assert by_name["path_length/linear"].count == 9
    assert "path_length/graph" not in by_name or by_name["path_length/graph"].count < 9


def test_ends_nearer_than_nodes_are_joined_by_the_line() -> None:
    findings = found(scaled(0.01), nodes=30)
    assert values(findings)["path_length_ratio/graph"] == pytest.approx(1, rel=1e-6)
    assert any("way of 9 of 9 pairs is the line itself" in note for note in findings.notes)


def test_a_constant_decoder_has_no_ways() -> None:
    subject = linear()
    with torch.no_grad():
        _weight(subject).zero_()
    with pytest.raises(Inapplicable, match="the same for different z"):
        found(subject)


def test_one_datum_is_no_pair() -> None:
    with pytest.raises(Inapplicable, match="raise limit"):
        found(subjects.digits(limit=1))


def test_what_no_way_can_be_of_is_refused_from_the_configuration() -> None:
    model = {"kind": "vae", "latent": 2, "posterior": {"kind": "delta"}, "likelihood": {"kind": "gaussian"}}
    config = TrainConfig.model_validate(
        {"data": {"name": "digits"}, "model": model, "objective": {"kind": "ae"}, "steps": 1,
         "checkpoint": {"metric": "val/distortion", "mode": "min"}}
    )  # fmt: skip
    assert "no prior was fitted" in "".join(InterpolationEvaluation().refusals(config))
    assert not list(InterpolationEvaluation().refusals(subjects.digits().config))
    with pytest.raises(ValueError, match="12 neighbours need more than 10 nodes"):
        EvaluationPlan.model_validate({"evaluators": [{"kind": "interpolation", "nodes": 10}]})


@pytest.mark.parametrize("name", catalogue.BACKBONES)
def test_every_backbones_speed_is_its_difference_quotient(name: str) -> None:
    model = catalogue.build("/".join((name, *catalogue.DEFAULT[1:]))).eval()
    generator = torch.Generator().manual_seed(3)
    z, v = (torch.randn(4, catalogue.LATENT, generator=generator, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        quotient = (model.decode(z + 1e-6 * v) - model.decode(z - 1e-6 * v)) / 2e-6
        torch.testing.assert_close(
            paths.speeds(model.decode, z, v), quotient.flatten(1).norm(dim=1), rtol=1e-5, atol=1e-9
        )
