"""Whether parts keep the contracts of `vae_models.protocols`, checked on a few data before the first step.

A part of a user's own package may return the wrong shape, draw numbers of its own, or return NaN: in training that ends
in a wrong loss, a resumed run that differs, or an error deep inside of torch. Here each method is called twice with the
same data and the same noise, and an error names the part and the method. Nothing is left changed:
neither a weight, nor a batch norm's statistics, nor the state of a generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor, nn

from vae_models.config.train import TrainConfig
from vae_models.data.batching import Resident
from vae_models.parts import PartError
from vae_models.protocols import (
    Backbone,
    BetaController,
    HasGiven,
    HasObjective,
    HasParts,
    HasPrediction,
    Likelihood,
    Model,
    Objective,
    Posterior,
    Prior,
)
from vae_models.records import Latent, Loss, NoiseSpec, Trace
from vae_models.strict import Strict
from vae_models.training import accumulation
from vae_models.training.step import NoiseSource

DATA = 3  # how many are tried with: two may be told apart, and three are no number of anything else

Draw = Callable[[Mapping[str, NoiseSpec]], dict[str, Tensor]]
Shape = Sequence[int]


def foreign(config: TrainConfig) -> bool:
    """Return whether some part is not of this package, whose own parts have tests of all these contracts."""
    return any(_module(part).partition(".")[0] != "vae_models" for part in (config.beta, *_specs(config)))


def check_foreign(
    config: TrainConfig,
    model: nn.Module,
    objective: Objective,
    controller: BetaController,
    *,
    data: Resident,
    source: NoiseSource,
) -> None:
    """Run `check` on the first of the training data where some part is not of this package; every worker the same."""
    rows = min(DATA, len(data))
    if not foreign(config):
        return

    def draw(specs: Mapping[str, NoiseSpec]) -> dict[str, Tensor]:
        return source.draw(specs, rows, stream="promises", step=0)

    x = data.batch(torch.arange(rows, device=data.index_device), draw(data.noise()))
    check(config, model, objective, controller, x=x, draw=draw)


@torch.random.fork_rng(devices=[])  # whatever a part draws against its promise, the run's own generator stays
def check(
    config: TrainConfig,
    model: nn.Module,
    objective: Objective,
    controller: BetaController,
    *,
    x: Tensor,
    draw: Draw,
) -> None:
    """Raise PartError for the first contract that is broken.

    x: `DATA` data, as the model reads them. draw: noise for them, the same for the same names.
    """
    parts = model.parts() if isinstance(model, HasParts) else {}
    topology = cast(Model, model)
    with _unchanged(model):
        _check_parts(config, topology, parts, x, draw)
        _check_model(config, topology, objective, x, draw)
        _check_objective(config, topology, objective, x, draw)
        if config.micro_batch is not None and config.micro_batch < config.batch_size:
            _check_adds_up(config, topology, objective, x, draw)
    _check_controller(config, controller, len(x), draw)


# --- what is promised -------------------------------------------------------------------------------------------------


def _check_parts(config: TrainConfig, model: Model, parts: Mapping[str, object], x: Tensor, draw: Draw) -> None:
    """Check the parts of a topology with one latent, in the order in which a pass calls them."""
    backbone, likelihood, prior, posterior = (
        parts.get(name) for name in ("backbone", "likelihood", "prior", "posterior")
    )
    if not (
        isinstance(backbone, Backbone)
        and isinstance(likelihood, Likelihood)
        and isinstance(prior, Prior)
        and isinstance(posterior, Posterior)
    ):
        return
    rows, (layer,) = len(x), model.latents().values()
    z_shape = (rows, *layer.shape)
    call = _Caller(config, model)
    mean, raw = call("backbone", "encode", lambda: backbone.encode(x), (z_shape, z_shape if posterior.scale else None))
    noise, of_prior = draw(prior.noise()), draw(prior.sample_noise())

    def encode(u: Tensor) -> tuple[Tensor, Tensor]:
        return posterior.normal(*backbone.encode(u))

    call("prior", "sample", lambda: prior.sample(of_prior, encode), z_shape)
    bound = prior.bind(encode, noise)
    z = mean
    if posterior.bound:
        z_noise = draw({"z": NoiseSpec(shape=layer.shape)})["z"]
        latent = call("posterior", "latent", lambda: posterior.latent("z", mean, raw, z_noise, bound), None)
        call.shapes("posterior", "latent", _latent(latent), _latent_shapes(latent, rows, layer.shape))
        z = latent.sample
    call("prior", "log_prob", lambda: bound.log_prob(z), (rows,))
    if posterior.bound and bound.normal_kl(mean, mean) is not None:
        call("prior", "normal_kl", lambda: bound.normal_kl(*posterior.normal(mean, raw)), (rows,))
    per_element, (first, *rest) = likelihood.parameters_per_element(), x.shape[1:]
    decoded = call("backbone", "decode", lambda: backbone.decode(z), (rows, per_element * first, *rest))
    call("likelihood", "log_prob", lambda: likelihood.log_prob(decoded, x), (rows,))
    if isinstance(likelihood, HasObjective):
        call("likelihood", "distortions", lambda: likelihood.distortions(decoded, x), ((rows,), (rows,)))
    call("likelihood", "mean", lambda: likelihood.mean(decoded), x.shape)
    if model.sampled:
        uniform = draw({"x": NoiseSpec(shape=tuple(x.shape[1:]), kind="uniform")})["x"]
        call("likelihood", "sample", lambda: likelihood.sample(decoded, uniform), x.shape)


def _check_model(config: TrainConfig, model: Model, objective: Objective, x: Tensor, draw: Draw) -> None:
    call, rows = _Caller(config, model), len(x) * objective.samples
    noise = draw(model.noise(objective.samples))
    trace = call("", "__call__", lambda: model(x, noise, torch.ones((), dtype=x.dtype, device=x.device)), None)
    per_row, data = (rows,), (rows, *x.shape[1:])
    wanted: dict[str, Shape] = {"distortion": per_row, "reconstruction": per_row}
    if not isinstance(model, HasGiven):  # whose target lacks what is given
        wanted |= {"target": data, "mean": data}
    call.shapes("", "__call__", {name: getattr(trace, name) for name in wanted}, wanted)
    layers = model.latents()
    if (names := tuple(latent.name for latent in trace.latents)) != tuple(layers):
        call.broken("", "__call__", f"returned a trace of the latents {list(names)}, and `latents` has {list(layers)}")
    for latent in trace.latents:
        call.shapes("", "__call__", _latent(latent), _latent_shapes(latent, rows, layers[latent.name].shape))
    if trace.samples != objective.samples:
        call.broken("", "__call__", f"returned a trace of {trace.samples} samples, of noise for {objective.samples}")
    _check_groups(call, model)
    if isinstance(model, HasPrediction):
        _check_prediction(call, model, x, draw)
        return
    of_prior = draw(model.prior_noise())
    call("", "sample_mean", lambda: model.sample_mean(of_prior), x.shape)
    if model.sampled:
        of_x = draw(model.sample_noise())
        call("", "sample", lambda: model.sample(of_x), x.shape)


def _check_prediction(call: _Caller, model: HasPrediction, x: Tensor, draw: Draw) -> None:
    """Check that two frames are predicted after a beginning."""
    noise, shape = draw(model.prediction_noise(2)), (len(x), 2, *x.shape[2:])
    call("", "predict", lambda: model.predict(x, 2, noise), shape)


def _check_groups(call: _Caller, model: Model) -> None:
    named = {id(value): name for name, value in cast(nn.Module, model).named_parameters()}
    grouped = [id(value) for group in model.groups().values() for value in group]
    if (missing := [name for key, name in named.items() if key not in grouped]) or len(set(grouped)) != len(grouped):
        what = f"leaves out {missing[0]}" if missing else "has a parameter in two groups"
        call.broken("", "groups", f"{what}, and must have every parameter once")


def _check_objective(config: TrainConfig, model: Model, objective: Objective, x: Tensor, draw: Draw) -> None:
    call = _Caller(config, model)
    if isinstance(objective, nn.Module) and any(True for _ in objective.parameters()):
        call.broken("objective", "__init__", "has parameters of its own, which nothing trains and no checkpoint keeps")
    noise = {**draw(model.noise(objective.samples)), **draw(objective.noise())}
    beta = torch.ones((), dtype=torch.float64)

    def loss() -> Loss:
        return objective(model(x, noise, beta), beta, model=model, noise=noise)

    given = call("objective", "__call__", loss, None, slopes=True)
    call.shapes(
        "objective", "__call__", {"total": given.total, **given.terms}, dict.fromkeys(("total", *given.terms), ())
    )
    wanted = {"distortion", "squared_error", *(("rate", "elbo") if model.bound else ())}
    if missing := sorted(wanted - given.terms.keys()):
        call.broken("objective", "__call__", f"returned no term {missing[0]}, and must report {sorted(wanted)}")


def _check_adds_up(config: TrainConfig, model: Model, objective: Objective, x: Tensor, draw: Draw) -> None:
    """Check that the loss of the data is the mean of those of its parts, which `micro_batch` relies on."""
    call = _Caller(config, model)
    noise = {**draw(model.noise(objective.samples)), **draw(objective.noise())}
    beta = torch.ones((), dtype=torch.float64)
    parts = accumulation.passes(len(x), len(x) - 1)

    def losses() -> tuple[Tensor, ...]:
        taken = (accumulation.rows(part, x, noise, beta, None) for part in (*accumulation.passes(len(x), None), *parts))
        return tuple(
            objective(model(of_x, of_noise, of_beta), of_beta, model=model, noise=of_noise).total
            for of_x, of_noise, of_beta, _ in taken
        )

    whole, *others = call("objective", "__call__", losses, None, slopes=True)
    added = accumulation.weighted(parts, others)
    if not torch.allclose(whole, added, rtol=1e-4, atol=1e-5):
        call.broken(
            "",
            "__call__",
            f"and its objective gave {len(x)} data a loss of {float(whole.detach()):g}, and in two parts one of "
            f"{float(added.detach()):g}: a part couples the data of a batch, and has to say so in its specification "
            "(`against_micro_batch`); leave micro_batch out",
        )


def _check_controller(config: TrainConfig, controller: BetaController, rows: int, draw: Draw) -> None:
    call, state, noise = _Caller(config, None), controller.initial(), draw(controller.noise())
    beta = call("beta", "beta", lambda: controller.beta(state, 0, noise), None)
    if tuple(beta.shape) not in ((), (rows,)):
        call.broken("beta", "beta", f"returned shape {list(beta.shape)}, and must return [] or [batch], here [{rows}]")
    unit = torch.ones((), dtype=torch.float64)
    terms = dict.fromkeys(("distortion", "squared_error", "rate", "elbo"), unit)
    after = call("beta", "update", lambda: controller.update(state, terms), None)
    if after.keys() != state.keys():
        call.broken("beta", "update", f"returned the state {sorted(after)}, and `initial` has {sorted(state)}")


def _latent(latent: Latent) -> dict[str, Tensor]:
    parts = {field.name: getattr(latent, field.name) for field in fields(latent)[1:]}
    return {f"latent {latent.name}'s {name}": part for name, part in parts.items() if part is not None}


def _latent_shapes(latent: Latent, rows: int, shape: Shape) -> list[Shape]:
    """Return the shapes of sample, mean, log_std; log_q, log_p, rate; and of rates, where there are any."""
    of_z: Shape = (rows, *shape)
    return [of_z] * 3 + [(rows,)] * 3 + [of_z] * (latent.rates is not None)


# --- how it is tried --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Caller:
    """Calls a method of a part twice, and says which part it was when a promise is broken."""

    config: TrainConfig
    model: Model | None

    def __call__(self, part: str, method: str, act: Callable[[], Any], shape: Any, *, slopes: bool = False) -> Any:
        """Call a method twice and return its result. Raise PartError where the results differ, are NaN or misshapen.

        shape: of the result, or of each of its tensors, with None for one that must be None; None: not checked.
        """
        first = self._once(part, method, act, slopes)
        second = self._once(part, method, act, slopes)
        if shape is not None:
            several = isinstance(first, tuple) and not (shape and isinstance(shape[0], int))
            self._same_shapes(part, method, first if several else (first,), shape if several else (shape,))
        for first_tensor, other in zip(_tensors(first), _tensors(second), strict=True):
            if first_tensor.shape != other.shape or not torch.equal(first_tensor.nan_to_num(), other.nan_to_num()):
                self.broken(
                    part,
                    method,
                    "returned something else when it was called again with the same data and the same noise: it must "
                    "be a pure function of them, and what it draws must come from the noise that it declares",
                )
            if bool(first_tensor.isnan().any()):
                self.broken(part, method, "returned NaN for data that are finite")
        return first

    def _once(self, part: str, method: str, act: Callable[[], Any], slopes: bool) -> Any:
        before = torch.random.get_rng_state()
        with _unchanged(cast(nn.Module | None, self.model)), torch.set_grad_enabled(slopes):
            try:
                answer = act()
            except PartError:
                raise
            except Exception as error:  # whatever a stranger's code does
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise PartError(f"{self._name(part)}: {method} failed: {reason}") from error
        if not torch.equal(before, torch.random.get_rng_state()):
            self.broken(part, method, "drew from torch's own generator: it must declare what it draws as noise")
        return answer

    def shapes(
        self, part: str, method: str, returned: Mapping[str, Any], wanted: Iterable[Shape] | Mapping[str, Shape]
    ) -> None:
        """Check the shape of every tensor of a record."""
        shapes = wanted.values() if isinstance(wanted, Mapping) else wanted
        for (name, value), shape in zip(returned.items(), shapes, strict=True):
            self._same_shapes(part, method, (value,), (shape,), of=f" as {name}")

    def broken(self, part: str, method: str, what: str) -> None:
        """Raise PartError that names the part and its method."""
        raise PartError(f"{self._name(part)}: {method} {what}")

    def _same_shapes(
        self, part: str, method: str, returned: Sequence[Any], wanted: Sequence[Shape | None], of: str = ""
    ) -> None:
        for value, shape in zip(returned, wanted, strict=True):
            if shape is None and value is None:
                continue
            given = f"shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            if shape is None or not isinstance(value, Tensor) or tuple(value.shape) != tuple(shape):
                must = "None" if shape is None else f"{list(shape)}: it was given {DATA} data"
                self.broken(part, method, f"returned {given}{of}, and must return {must}")

    def _name(self, part: str) -> str:
        """Return the part's name for messages: "likelihood student-t (my_package.specs)"."""
        spec = {"": self.config.model, "objective": self.config.objective, "beta": self.config.beta}.get(part)
        spec = getattr(self.config.model, part, None) if spec is None else spec
        return f"{part or 'model'} {getattr(spec, 'kind', '')} ({_module(spec)})"


@contextmanager
def _unchanged(model: nn.Module | None) -> Iterator[None]:
    """Restore buffers and mode at the end: a batch norm in training moves its statistics."""
    if model is None:
        yield
        return
    training = model.training
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    try:
        yield
    finally:
        model.train(training)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in before:
                    buffer.copy_(before[name])


def _tensors(value: Any) -> list[Tensor]:
    """Return the tensors in what a part returns: records, tuples and mappings of tensors."""
    if isinstance(value, Tensor):
        return [value.detach()]
    if isinstance(value, Mapping):
        return [tensor for each in value.values() for tensor in _tensors(each)]
    if isinstance(value, tuple | list):
        return [tensor for each in value for tensor in _tensors(each)]
    if isinstance(value, Trace | Latent | Loss):
        return [tensor for each in fields(value) for tensor in _tensors(getattr(value, each.name))]
    return []


def _specs(config: TrainConfig) -> Iterator[Strict]:
    stack: list[Any] = [config.model, config.objective]
    while stack:
        spec = stack.pop()
        if isinstance(spec, Strict):
            yield spec
            stack += [getattr(spec, name) for name in type(spec).model_fields]


def _module(spec: object) -> str:
    return type(spec).__module__
