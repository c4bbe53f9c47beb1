"""Samples are a function of (seed, stream, number): whatever the batches, the workers and how many are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from tests import gangs, subjects
from vae_models.evaluation.drawing import drawn, latents, name_of
from vae_models.evaluation.subject import Inapplicable, Subject
from vae_models.likelihoods.specs import GaussianConfig
from vae_models.nn.meter import Meter
from vae_models.priors.specs import StandardNormalConfig, VampPriorConfig, VHPConfig
from vae_models.records import NoiseSpec
from vae_models.samplers.laws import tempered
from vae_models.samplers.specs import PriorSamplerConfig
from vae_models.topologies.vae.specs import GatingConfig

PRIOR = PriorSamplerConfig()
PRIORS = {
    "standard-normal": StandardNormalConfig(),
    "vampprior": VampPriorConfig(components=7),
    "vhp": VHPConfig(hidden=(6,)),
}
COUNT = 150  # more than two blocks of noise; 32 does not divide it
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def _drawn(subject: Subject, form: str) -> Tensor:
    return drawn(subject, PRIOR, COUNT, form=form)  # type: ignore[arg-type]


def _work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    found = {f"{name}/{form}": _drawn(subjects.digits(prior=prior, batch_size=32), form)
             for name, prior in PRIORS.items() for form in ("means", "samples")}  # fmt: skip
    found["few"] = drawn(subjects.digits(batch_size=32), PRIOR, 5)  # one worker has none
    found["encoded"] = subjects.digits(batch_size=50, limit=170).posteriors("test").mean
    torch.save(found, folder / f"drawn-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def gang(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("gang")
    gangs.run(_work, (3, folder), 3)
    return [torch.load(folder / f"drawn-{rank}.pt", weights_only=True) for rank in range(3)]


@pytest.mark.parametrize("form", ["means", "samples"])
@pytest.mark.parametrize("prior", PRIORS)
def test_three_workers_draw_what_one_draws(gang: list[dict[str, Tensor]], prior: str, form: str) -> None:
    alone = _drawn(subjects.digits(prior=PRIORS[prior], batch_size=512), form)
    assert alone.shape == (COUNT, 1, 8, 8)
    assert alone.unique(dim=0).shape[0] == COUNT  # no two are alike
    for worker in gang:
        torch.testing.assert_close(worker[f"{prior}/{form}"], alone, **CLOSE)


def test_workers_without_a_batch_get_all_rows(gang: list[dict[str, Tensor]]) -> None:
    alone = subjects.digits()
    for worker in gang:
        torch.testing.assert_close(worker["few"], drawn(alone, PRIOR, 5), **CLOSE)
        torch.testing.assert_close(worker["encoded"], alone.posteriors("test").mean[:170], **CLOSE)


def test_more_samples_begin_with_the_fewer() -> None:
    subject = subjects.digits(batch_size=20)
    torch.testing.assert_close(drawn(subject, PRIOR, 33), drawn(subject, PRIOR, 101)[:33], **CLOSE)
    assert not torch.equal(drawn(subject, PRIOR, 33), drawn(subject, PRIOR, 33, stream="others"))


def test_means_and_samples_are_of_the_same_z() -> None:
    subject = subjects.digits()
    z = latents(subject, PRIOR, COUNT)
    means, samples = drawn(subject, PRIOR, COUNT), drawn(subject, PRIOR, COUNT, form="samples")
    torch.testing.assert_close(means, subject.space.decode(z), **CLOSE)
    residual = (samples - means).flatten()
    assert residual.std().item() == pytest.approx(0.1, rel=0.03)  # the likelihood's sigma, 9,600 residuals
    assert abs(residual.mean().item()) < 0.005


@pytest.mark.parametrize("prior", PRIORS)
def test_the_temperature_scales_the_laws_deviations(prior: str) -> None:
    """At each temperature T, z(T) - z(0) is T times what it is at 1 where one layer is drawn; at 0 nothing varies."""
    subject = subjects.digits(prior=PRIORS[prior])
    cold, half, whole = (latents(subject, PRIOR, COUNT, temperature=t) for t in (0.0, 0.5, 1.0))
    components = {"standard-normal": 1, "vampprior": 7, "vhp": 1}[prior]
    assert cold.unique(dim=0).shape[0] == components
    if prior != "vhp":  # whose mean of z moves with zeta
        torch.testing.assert_close(half - cold, 0.5 * (whole - cold), **CLOSE)
    assert (half - cold).std() < (whole - cold).std()


def test_a_law_without_normal_noise_has_no_temperature() -> None:
    specs, noise = {"u": NoiseSpec(shape=(2,), kind="uniform")}, {"u": torch.rand(3, 2)}
    assert tempered(noise, specs, 1.0) is noise
    with pytest.raises(ValueError, match=r"a temperature of 0\.5 scales normal noise, and this law of z has none"):
        tempered(noise, specs, 0.5)


def test_a_multi_rate_model_draws_at_the_beta_asked_for() -> None:
    subject = subjects.digits(gating=GatingConfig())
    at_one, at_two = drawn(subject, PRIOR, 9), drawn(subject, PRIOR, 9, beta=2.0)
    torch.testing.assert_close(at_one, drawn(subject, PRIOR, 9, beta=1.0), **CLOSE)
    assert not torch.allclose(at_one, at_two)


def test_the_plans_memory_bounds_a_batch() -> None:
    """20,000 digits in float64, with what their decoder makes on the way, do not fit into 16 MiB at once."""
    seen: list[int] = []
    subject = subjects.digits(memory_mib=16, batch_size=32768)
    make = subject.module.sample_mean

    def measured(noise: dict[str, Tensor], beta: Tensor | None = None) -> Tensor:
        with Meter() as meter:
            made: Tensor = make(noise, beta)
        seen.append(meter.peak)
        return made

    subject.module.sample_mean = measured  # type: ignore[union-attr]
    assert len(drawn(subject, PRIOR, 20_000)) == 20_000
    assert len(seen) > 3  # two passes that measure, and several batches
    assert 2**20 < max(seen) < 16 * 2**20


def test_what_cannot_be_drawn_says_so() -> None:
    subject = subjects.digits(likelihood=GaussianConfig(fit="mle", per="datum"))
    with pytest.raises(ValueError, match="ask for means"):
        drawn(subject, PRIOR, 4, form="samples")
    assert issubclass(Inapplicable, ValueError)
    assert name_of(PRIOR) == "prior"
