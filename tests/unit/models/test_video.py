"""SVG-LP: counts, the published loop frame by frame, padding, predictions, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from tests import videos
from tests.catalogue import LIKELIHOODS, draw
from vae_models.config.shape import reason_against
from vae_models.evaluation.findings import Findings
from vae_models.evaluation.run import evaluate
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.likelihoods.specs import BernoulliConfig, GaussianConfig
from vae_models.protocols import HasGiven, HasPrediction
from vae_models.topologies.video.frame_specs import DcganConfig, FrameNetSpec, VggConfig
from vae_models.topologies.video.model import Video
from vae_models.topologies.video.specs import VideoConfig
from vae_models.trained import Trained
from vae_models.training import promises
from vae_models.training.context import LocalContext
from vae_models.training.errors import NonFiniteLoss
from vae_models.training.loop import Run, train

SHAPE = (6, 1, 8, 8)
SMALL = VideoConfig.model_validate(videos.MODEL | {"frames": 6})
SMALL_VGG = SMALL.model_copy(update={"frame_net": VggConfig(channels=(3, 4), layers=(1, 2), features=5)})
CONFIGS = {
    "dcgan": SMALL,
    "vgg": SMALL_VGG,
    "previous": SMALL.model_copy(update={"skips": "previous"}),
    "layers": SMALL.model_copy(update={"predictor_layers": 1, "latent_layers": 2}),
    "one-frame-given": SMALL.model_copy(update={"context": 1}),
    "predicted": SMALL.model_copy(update={"likelihood": LIKELIHOODS["gaussian-predicted-iso"]}),
    "colours": SMALL.model_copy(update={"likelihood": BernoulliConfig(), "frames": 4}),
}
SHAPES = {"colours": (4, 3, 16, 8)}


def built(config: VideoConfig, shape: tuple[int, ...] = SHAPE) -> Video:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = config.build(shape).double()
        for parameter in model.parameters():  # far from the small ones of before training, that all of it shows
            parameter.data += 0.1 * torch.randn_like(parameter)
        return model


def inputs(model: Video, rows: int = 3, samples: int = 1) -> tuple[Tensor, Mapping[str, Tensor]]:
    x = videos.videos(rows, model.shape).double() / 255
    return x, draw(model.noise(samples), rows, torch.Generator().manual_seed(1))


# --- counts ---------------------------------------------------------------------------------------------------------


def normed(inputs: int, outputs: int, area: int) -> int:
    """A convolution with bias, and scale and shift of the batch norm after it."""
    return (inputs * area + 1) * outputs + 2 * outputs


DCGAN_ENCODER = [(1, 64, 16), (64, 128, 16), (128, 256, 16), (256, 512, 16), (512, 128, 16)]
DCGAN_DECODER = [(128, 512, 16), (1024, 256, 16), (512, 128, 16), (256, 64, 16)]  # the skips double the inputs
VGG_ENCODER = [
    (1, 64, 9), (64, 64, 9),
    (64, 128, 9), (128, 128, 9),
    (128, 256, 9), (256, 256, 9), (256, 256, 9),
    (256, 512, 9), (512, 512, 9), (512, 512, 9),
    (512, 128, 16),
]  # fmt: skip
VGG_DECODER = [
    (128, 512, 16),
    (1024, 512, 9), (512, 512, 9), (512, 256, 9),
    (512, 256, 9), (256, 256, 9), (256, 128, 9),
    (256, 128, 9), (128, 64, 9),
    (128, 64, 9),
]  # fmt: skip
NETS = {"dcgan": (DCGAN_ENCODER, DCGAN_DECODER, (128, 16)), "vgg": (VGG_ENCODER, VGG_DECODER, (64, 9))}
FRAME_NETS: Mapping[str, FrameNetSpec] = {"dcgan": DcganConfig(), "vgg": VggConfig()}


def recurrent(latent: int) -> int:
    """Predictor: linear, two LSTM layers of 256 (input, hidden, two biases for four gates), linear to 128 features;
    posterior and prior: linear, one layer, two linear heads."""
    layer = 4 * 256 * (256 + 256 + 2)
    predictor = (128 + latent + 1) * 256 + 2 * layer + (256 + 1) * 128
    normal = (128 + 1) * 256 + layer + 2 * (256 + 1) * latent
    return predictor + 2 * normal


@pytest.mark.parametrize(
    ("net", "colours", "latent", "total"),
    [
        ("dcgan", 1, 10, 12_614_057),
        ("dcgan", 3, 64, 12_689_539),
        ("vgg", 1, 10, 22_760_105),
        ("vgg", 3, 64, 22_831_747),
    ],
)
def test_the_published_structure_layer_by_layer(net: str, colours: int, latent: int, total: int) -> None:
    encoder, decoder, (last, area) = NETS[net]
    (_, first, of_first), *others = encoder
    expected = normed(colours, first, of_first) + sum(normed(*layer) for layer in [*others, *decoder])
    expected += (last * area + 1) * colours + recurrent(latent)
    config = VideoConfig(latent=latent, frame_net=FRAME_NETS[net])
    shape = (15, colours, 64, 64)
    assert expected == total == config.weights(shape)
    with torch.device("meta"):
        assert sum(each.numel() for each in config.build(shape).parameters()) == total


@pytest.mark.parametrize("name", CONFIGS)
def test_what_the_specification_says_is_what_is_built(name: str) -> None:
    config, shape = CONFIGS[name], SHAPES.get(name, SHAPE)
    model = built(config, shape)
    assert config.weights(shape) == sum(each.numel() for each in model.parameters())
    assert {name: layer.shape for name, layer in model.latents().items()} == config.latents()
    assert not list(config.data_refusals(shape, 2))
    x, noise = inputs(model)
    trace = model(x, noise)
    assert trace.mean.shape == trace.target.shape == (3, shape[0] - 1, *shape[1:])
    assert [latent.name for latent in trace.latents] == list(config.latents())
    assert isinstance(model, HasGiven)
    assert isinstance(model, HasPrediction)
    assert model.given == math.prod(shape[1:])


# --- the published loop ---------------------------------------------------------------------------------------------


class Cells:
    """An LSTM of `recurrent` as the published code writes it: linear, `LSTMCell`s, one frame at a time."""

    def __init__(self, module: nn.Module) -> None:
        self.module, lstm = module, module.lstm
        self.cells = []
        for layer in range(lstm.num_layers):
            cell = nn.LSTMCell(lstm.hidden_size, lstm.hidden_size).double()
            cell.load_state_dict({
                name: getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            })  # fmt: skip
            self.cells.append(cell)
        self.states: list[Any] = [None] * len(self.cells)

    def __call__(self, x: Tensor) -> Tensor:
        y = self.module.embedding(x)
        for layer, cell in enumerate(self.cells):
            self.states[layer] = cell(y, self.states[layer])
            y = self.states[layer][0]
        return y


def loop(model: Video, x: Tensor, noise: Tensor, *, context: int, frames: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the parameters of each frame from the second on, and KL(q || p), frame by frame: after the context z is
    the prior's and the frame before is the one that was predicted."""
    posterior, prior, predictor = Cells(model.posterior), Cells(model.prior), Cells(model.predictor)
    before, skip = model.frames.encode(x[:, 0])
    posterior(before)
    for time in range(1, frames):
        prior_mean, prior_log = ((f := prior(before)), model.prior.mean(f), model.prior.log_variance(f))[1:]
        mean, log_variance = prior_mean, prior_log
        if time < context:
            here, maps = model.frames.encode(x[:, time])
            f = posterior(here)
            mean, log_variance = model.posterior.mean(f), model.posterior.log_variance(f)
        z = mean + torch.exp(log_variance / 2) * noise[:, time - 1]
        kl = 0.5 * (prior_log - log_variance) - 0.5
        kl = kl + (log_variance.exp() + (mean - prior_mean).square()) / (2 * prior_log.exp())
        decoded = model.frames.decode(model.predictor.output(predictor(torch.cat([before, z], 1))), skip)
        yield decoded, kl.sum(1)
        if time >= context:
            here, maps = model.frames.encode(model.likelihood.mean(decoded))
        before = here
        skip = maps if time < model.context or model.skips == "previous" else skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_pass_is_the_published_loop(name: str) -> None:
    model = built(CONFIGS[name], SHAPES.get(name, SHAPE)).eval()
    x, noise = inputs(model)
    trace = model(x, noise)
    steps = list(loop(model, x, noise["z"], context=x.shape[1], frames=x.shape[1]))
    for time, (latent, (decoded, kl)) in enumerate(zip(trace.latents, steps, strict=True)):
        torch.testing.assert_close(latent.rate, kl)
        torch.testing.assert_close(trace.mean[:, time], model.likelihood.mean(decoded))
    torch.testing.assert_close(trace.rate, torch.stack([kl for _, kl in steps]).sum(0))
    nats = [-model.likelihood.log_prob(decoded, x[:, 1 + time]) for time, (decoded, _) in enumerate(steps)]
    if CONFIGS[name].likelihood.kind == "gaussian" and CONFIGS[name].likelihood.fit == "mle":
        return  # in evaluation by the sigma of training, the same for all frames: below
    torch.testing.assert_close(trace.distortion, torch.stack(nats).sum(0))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_prediction_is_the_published_loop(name: str) -> None:
    model = built(CONFIGS[name], SHAPES.get(name, SHAPE)).eval()
    x, _ = inputs(model)
    noise = draw(model.prediction_noise(5), 3, torch.Generator().manual_seed(2))
    frames = model.predict(x, 5, noise)
    of_z = torch.stack([noise[f"predict/z{time}"] for time in range(2, model.context + 6)], 1)
    steps = list(loop(model, x, of_z, context=model.context, frames=model.context + 5))
    for place, (decoded, _) in enumerate(steps[model.context - 1 :]):
        torch.testing.assert_close(frames[:, place], model.likelihood.mean(decoded))
    after = x.clone()
    after[:, model.context :] = 0.3
    assert torch.equal(model.predict(after, 5, noise), frames)  # which reads the context alone
    assert torch.equal(model.predict(x[:, : model.context], 5, noise), frames)
    torch.testing.assert_close(model.predict(x, 2, noise), frames[:, :2])


def test_the_loss_is_the_published_one() -> None:
    """MSE summed over frames + beta KL, with its gradient: sigma^2 = D / 2 of frames of D elements, and a constant."""
    config = SMALL.model_copy(update={"likelihood": GaussianConfig(sigma=math.sqrt(64 / 2), link="sigmoid")})
    model = built(config)
    x, noise = inputs(model)
    trace = model(x, noise)
    ours = (trace.distortion + 1e-4 * trace.rate).mean()
    published = (trace.mean - x[:, 1:]).square().flatten(2).mean(2).sum(1).mean() + 1e-4 * trace.rate.mean()
    constant = 5 * 64 / 2 * math.log(2 * math.pi * 64 / 2)
    torch.testing.assert_close(ours, published + constant)
    parameters = list(model.parameters())
    gradients = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (ours, published)]
    torch.testing.assert_close(*gradients)


def test_the_optimal_sigma_is_over_all_frames_of_the_batch() -> None:
    model = built(SMALL)
    x, noise = inputs(model)
    trace = model(x, noise)
    squared = (trace.mean - x[:, 1:]).square()
    log_sigma = -6 + nn.functional.softplus(0.5 * squared.mean().log() + 6)  # sigma-VAE's soft clip
    nats = (0.5 * squared / (2 * log_sigma).exp() + log_sigma + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
    torch.testing.assert_close(trace.distortion, nats)


# --- invariants -----------------------------------------------------------------------------------------------------


def test_a_later_frame_changes_nothing_that_was_said_before_it() -> None:
    model = built(SMALL).eval()
    x, noise = inputs(model)
    other = x.clone()
    other[:, 4] = 0.9
    first, second = model(x, noise), model(other, noise)
    assert torch.equal(first.mean[:, :3], second.mean[:, :3])
    assert not torch.equal(first.mean[:, 3:], second.mean[:, 3:])
    assert [torch.equal(a.mean, b.mean) for a, b in zip(first.latents, second.latents, strict=True)] == [
        True, True, True, False, False
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["dcgan", "predicted", "colours"])
def test_several_samples_of_a_video_are_passes_of_their_own(name: str) -> None:
    model = built(CONFIGS[name], SHAPES.get(name, SHAPE)).eval()
    x, noise = inputs(model, samples=2)
    together = model(x, noise)
    for sample in range(2):
        alone = model(x, {key: value[:, sample] for key, value in noise.items()})
        torch.testing.assert_close(together.rate[sample::2], alone.rate)
        torch.testing.assert_close(together.distortion[sample::2], alone.distortion)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", ["dcgan", "vgg", "previous"])
def test_padding_counts_nothing(name: str, training: bool) -> None:
    """Whatever stands there, batch norms and the optimal sigma included; in evaluation as each video alone."""
    model = built(CONFIGS[name]).train(training)
    x, noise = inputs(model)
    lengths = torch.tensor([6, 2, 4])
    mask = (torch.arange(6) < lengths[:, None]).view(3, 6, 1, 1, 1)
    first, second = (model(x.where(mask, torch.tensor(value).double()), noise, None, mask) for value in (0.0, 0.7))
    for field in ("distortion", "rate", "squared_error", "mean"):
        torch.testing.assert_close(getattr(first, field), getattr(second, field), rtol=0, atol=0)
    whole = model(x, noise, None, torch.ones_like(mask))
    torch.testing.assert_close(whole.distortion, model(x, noise).distortion)
    for row, length in enumerate(lengths.tolist()) if not training else ():
        alone = model(x[row : row + 1, :length], {"z": noise["z"][row : row + 1, : length - 1]})
        torch.testing.assert_close(first.rate[row], alone.rate[0])
        torch.testing.assert_close(first.distortion[row], alone.distortion[0])
        torch.testing.assert_close(first.squared_error[row], alone.squared_error[0])


def test_draws_have_the_mean_and_the_deviation_of_the_likelihood() -> None:
    config = SMALL.model_copy(update={"likelihood": GaussianConfig(sigma=0.3)})
    model = built(config).eval()
    x, _ = inputs(model, rows=1)
    noise = {key: value.expand(4000, *value.shape[1:]) for key, value in draw(
        model.prediction_noise(1), 1, torch.Generator().manual_seed(0)).items()}  # fmt: skip
    mean = model.predict(x, 1, {key: value[:1] for key, value in noise.items()})
    uniform = draw(model.drawn_prediction_noise(1), 4000, torch.Generator().manual_seed(3))["predict/x3"]
    drawn = model.draw_prediction(x.expand(4000, *x.shape[1:]), 1, {**noise, "predict/x3": uniform})
    torch.testing.assert_close(drawn.mean(0), mean[0], atol=5 * 0.3 / 4000**0.5, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.full_like(mean[0], 0.3), atol=5 * 0.3 / 8000**0.5, rtol=0)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": {**videos.MODEL, "context": 6}}, "context is 6, and the videos have 6 frames: there must be 7"),
        ({"data": videos.data((2, 1, 8, 8))}, "the videos have 2 frames: there must be 3 or more"),
        ({"data": videos.data((6, 1, 8, 10))}, "halves each side 2 times, and the frames are 8 x 10: give"),
        ({"data": {"name": "digits"}}, r"model video takes videos \(time, channel, height, width\), and the data have"),
        ({"objective": {"kind": "tc"}}, "objective tc is of one latent, and model video has 5"),
        ({"beta": {"kind": "log-uniform"}}, "nothing here reads beta"),
    ],
)  # fmt: skip
def test_what_does_not_suit_is_refused_when_the_specification_is_read(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        videos.config(**fields)


def test_predictions_say_what_they_need() -> None:
    model = built(SMALL).eval()
    x, _ = inputs(model)
    noise = draw(model.prediction_noise(2), 3, torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"reads the first 2 frames of videos .* give as many frames"):
        model.predict(x[:, :1], 2, noise)
    with pytest.raises(ValueError, match="frames is 0: ask for 1 or more"):
        model.predict(x, 0, noise)
    for sample in (model.sample, model.sample_mean):
        with pytest.raises(NotImplementedError, match="a video continues frames that are given"):
            sample({})


# --- in the loop ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"objective": {"kind": "iwae", "samples": 2}},
        {"beta": {"kind": "rewo", "kappa": 0.05}},
        {"beta": {"kind": "geco", "kappa": 0.05}},
        {"data": videos.data(lengths=True)},
        {"precision": "bf16", "dtype": "float32"},
    ],
    ids=str,
)
def test_it_is_trained_evaluated_pictured_and_loaded(fields: dict[str, Any], tmp_path: Path) -> None:
    lengths = torch.arange(40) % 5 + 2 if "data" in fields else None
    evaluation = {"every_epochs": 2, "batch_size": 5, "pictures": True}
    config = videos.config(**{"evaluation": evaluation, **fields})
    assert isinstance(config.model, VideoConfig)
    assert config.model.frames == 6
    result = train(config, LocalContext(tmp_path), dataset=videos.dataset(lengths=lengths))
    metrics = result.metrics
    assert metrics["val/elbo"] == pytest.approx(-(metrics["val/distortion"] + metrics["val/rate"]))
    assert {path.stem.split("-")[0] for path in tmp_path.rglob("*.png")} == {"reconstructions"}
    model = Trained.load(tmp_path)
    x = videos.videos(2).double().numpy() / 255
    assert model.reconstruct(x).shape == (2, 5, 1, 8, 8)
    with pytest.raises(ValueError, match="samples nothing without one"):
        model.sample(2)
    whole = None if lengths is None else [6, 6]
    assert set(model.score(x, samples=3, lengths=whole)) == {"elbo", "nll", "rate", "distortion"}


def test_a_trained_model_continues_beginnings() -> None:
    config = videos.config()
    model = Trained(built(SMALL), config, SHAPE)
    x = videos.videos(5).double().numpy() / 255
    future = model.continued(x, seed=1)
    assert future.shape == (5, 4, 1, 8, 8)
    np.testing.assert_allclose(model.continued(x[:, :2].reshape(5, -1), seed=1), future, rtol=1e-12)
    np.testing.assert_allclose(model.continued(x[3:], seed=1, first=3), future[3:], rtol=1e-12)
    told = {"task": "continue", "frames": 2, "seed": 1}
    np.testing.assert_allclose(model.predict(x, told), future[:, :2], rtol=1e-12)
    assert not np.allclose(model.continued(x, seed=2), future)
    assert model.continued(x, frames=3, form="samples").shape == (5, 3, 1, 8, 8)
    assert model.continued(x[:0]).shape == (0, 4, 1, 8, 8)
    with pytest.raises(ValueError, match=r"this model continues \[n, 2 or more, 1, 8, 8\]"):
        model.continued(x[:, :1])
    with pytest.raises(ValueError, match="divide bytes by 255 first"):
        model.continued(255 * x)


@pytest.mark.parametrize("lengths", [None, torch.arange(40) % 5 + 2], ids=["whole", "lengths"])
def test_evaluators_find_out_what_they_say(lengths: Tensor | None) -> None:
    """All that suit it, and what is told of the latents is of each frame but the first."""
    config = videos.config(data=videos.data(lengths=lengths is not None))
    evaluators = [{"kind": kind} for kind in ("likelihood", "latent", "reconstruction", "pictures")]
    plan = EvaluationPlan.model_validate({"limit": 8, "evaluators": [*evaluators, {"kind": "nll", "samples": 3}]})
    subject = Subject(built(SMALL), config, videos.dataset(lengths=lengths), plan)
    found = sum(evaluate(subject).values(), start=Findings())
    values = {value.name: value.value for value in found.values}
    assert values["elbo"] == pytest.approx(-(values["rate"] + values["distortion"]))
    assert values["nll_3"] < -values["elbo"] + 1
    (latents,) = (table for table in found.tables if table.name == "latents")
    assert [row[0] for row in latents.rows] == ["z2", "z3", "z4", "z5", "z6"]
    assert sum(float(row[2]) for row in latents.rows) == pytest.approx(values["rate"], rel=0.05)
    assert {picture.name for picture in found.pictures} >= {"reconstructions", "latent_rates"}


@pytest.mark.parametrize("name", ["dcgan", "vgg", "predicted"])
def test_it_keeps_its_promises(name: str, tmp_path: Path) -> None:
    """Those that are asked of topologies with somebody else's part; and it is fused with no other, for a reason."""
    run = Run(videos.config(CONFIGS[name].model_dump()), LocalContext(tmp_path), videos.dataset())

    def drawn(specs: Any) -> Any:
        return run.noise.draw(specs, promises.DATA, stream="promises", step=0)

    x = run.train_data.batch(torch.arange(promises.DATA), drawn(run.train_data.noise()))
    promises.check(run.config, run.model, run.module.objective, run.controller, x=x, draw=drawn)
    assert "torch.func.vmap has no LSTM" in str(reason_against(run.config))


@pytest.mark.parametrize("sigma", [{"fit": "mle"}, {"fit": "fixed", "sigma": 0.3}], ids=str)
def test_a_batch_of_single_frames_has_nothing_to_predict_and_moves_nothing(
    sigma: dict[str, Any], tmp_path: Path
) -> None:
    """All videos of length 1: no frame is decoded, so the loss is 0, and neither weights, sigma nor the decoder's batch
    norms move; what follows trains."""
    likelihood = {"kind": "gaussian", "link": "sigmoid", **sigma}
    config = videos.config({**videos.MODEL, "likelihood": likelihood}, data=videos.data(lengths=True), steps=2)
    run = Run(config, LocalContext(tmp_path), videos.dataset(lengths=torch.ones(40, dtype=torch.int64)))
    assert isinstance(run.model, Video)
    run.begin()

    def kept() -> dict[str, Tensor]:
        parts = {"weights": run.model, "decoder": run.model.frames.decoder, "sigma": run.model.likelihood}
        named = {"weights": dict(parts["weights"].named_parameters())}
        named |= {name: dict(parts[name].named_buffers()) for name in ("decoder", "sigma")}
        return {f"{part}/{name}": value.detach().clone() for part in named for name, value in named[part].items()}

    before = kept()
    run.step()
    for name, value in kept().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)
    run.after_step()
    (line, *_) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    logged = json.loads(line)["metrics"]
    assert {name: logged[f"train/{name}"] for name in ("loss", "rate", "distortion", "grad_norm")} == {
        "loss": 0, "rate": 0, "distortion": 0, "grad_norm": 0,
    }  # fmt: skip
    run.close()


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    config = videos.config(optimizer={"lr": 1e30}, dtype="float32")
    with pytest.raises(NonFiniteLoss) as caught:
        train(config, LocalContext(tmp_path), dataset=videos.dataset())
    assert (caught.value.term, caught.value.step) == ("loss", 2)
