"""One batch on one worker and on two: the same loss, terms and gradients for every objective and likelihood."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests import gangs
from tests.catalogue import LATENT, LIKELIHOODS, MODELS, OBJECTIVES, PRIORS, build, draw, goes_together, inputs
from vae_models import collectives
from vae_models.data.batching import rank_slice
from vae_models.training.step import StepModule

BATCH = 7  # 2 does not divide it
LIKELIHOOD, PRIOR, POSTERIOR = "bernoulli", "standard-normal", "diagonal-normal"
CASES: list[tuple[str, str]] = sorted(
    {
        *(
            (objective, f"mlp-relu/{LIKELIHOOD}/{PRIOR}/{posterior}")
            for objective in OBJECTIVES
            for posterior in ("delta", POSTERIOR)
        ),
        *(("elbo", f"mlp-relu/{likelihood}/{PRIOR}/{POSTERIOR}") for likelihood in LIKELIHOODS),
        *(("elbo", f"mlp-relu/{LIKELIHOOD}/{prior}/{POSTERIOR}") for prior in PRIORS),
        ("elbo", f"conv-28/{LIKELIHOOD}/{PRIOR}/{POSTERIOR}"),
        ("iwae", f"mlp-relu/{LIKELIHOOD}/vhp/{POSTERIOR}"),
    }
)
ACCEPTED = [case for case in CASES if goes_together(*case)]


def step(objective: str, name: str) -> dict[str, Tensor]:
    """Loss, terms and gradients of this worker's part of the batch, as DDP leaves them."""
    part = OBJECTIVES[objective].build(30, MODELS[name][1], LATENT)
    model = build(name, seed=4)
    x, noise = inputs(name, batch=BATCH, samples=part.samples)
    noise |= draw(part.noise(), BATCH, torch.Generator().manual_seed(9))
    rows = rank_slice(BATCH, collectives.rank(), collectives.world_size())
    module = collectives.data_parallel(StepModule(model, part))
    fixed = objective in ("iwae", "ae", "wae-mmd", "rae", "rae-gp")
    beta = torch.tensor(1.0) if fixed else torch.linspace(0.1, 2, BATCH, dtype=torch.float64)[rows]
    total, terms = module(x[rows], {key: value[rows] for key, value in noise.items()}, beta)
    total.backward()
    found = {"total": total.detach(), **{f"term {key}": value for key, value in terms.items()}}
    return found | {key: value.grad for key, value in model.named_parameters() if value.grad is not None}


def worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        torch.save([step(*case) for case in ACCEPTED], f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("workers")
    gangs.run(worker, (str(folder),), 2)
    return [torch.load(Path(folder, f"{rank}.pt"), weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("place", range(len(ACCEPTED)), ids=["-".join(case).replace("/", "-") for case in ACCEPTED])
def test_two_workers_compute_what_one_does(place: int, on_two: list[list[dict[str, Tensor]]]) -> None:
    expected = step(*ACCEPTED[place])
    largest = max(float(value.abs().max()) for value in expected.values())
    for rank in range(2):
        found = on_two[rank][place]
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-11 * largest, msg=f"{key} on {rank}")


def test_every_kind_is_there() -> None:
    assert {case[0] for case in ACCEPTED} == set(OBJECTIVES)
    assert {case[1].split("/")[1] for case in ACCEPTED} == set(LIKELIHOODS)
    assert {case[1].split("/")[2] for case in ACCEPTED} == set(PRIORS)
