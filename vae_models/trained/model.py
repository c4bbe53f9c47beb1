"""A trained model: what it makes of data and of latents, in batches, without chance that is not asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vae_models import bounds, random
from vae_models.config.run import RunConfig
from vae_models.data.masks import Masks
from vae_models.evaluation.fitting.fitted import Fitted
from vae_models.protocols import HasPrediction, LatentSpace, Model
from vae_models.records import NoiseSpec
from vae_models.samplers.laws import tempered, x_noise
from vae_models.samplers.specs import FOLDER
from vae_models.trained import checks, folders, laws, scores, walks
from vae_models.trained.records import Encoded, Origin, Traversal, like
from vae_models.training.errors import IncompatibleCheckpoint

BATCH = 256  # data that are encoded, or latents that are decoded, at a time
SAMPLES = 100  # of each posterior, for the likelihood
FORMS = ("means", "samples", "latents")
MIDDLE = {"normal": 0.0, "uniform": 0.5}


class Trained:
    """A trained model in use, on one device. It is made by `load`.

    Data and latents are given as arrays, tensors, data frames or lists and checked (ValueError says what is taken);
    results are tensors on the CPU where tensors were given, arrays else. A datum's result depends neither on the
    others beside it nor on the size of a batch, up to rounding, and chance is a function of `seed` and its number.

    beta: of a multi-rate model, at which its gates are set, one for all data; None: 1.
    """

    def __init__(
        self,
        model: nn.Module,
        config: RunConfig,
        shape: tuple[int, ...],
        *,
        device: torch.device | str = "cpu",
        origin: Origin | None = None,
    ) -> None:
        """Take the model into use. shape: of one datum, such as (channels, height, width)."""
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.config = config
        self.shape = shape
        self.origin = origin
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self._laws = laws.Laws(self.model, None if origin is None else folders.owner(origin.folder) / FOLDER)
        self.form = checks.Form(data=config.data, shape=shape, dtype=config.dtype)

    @classmethod
    def load(cls, folder: Path | str, *, device: torch.device | str = "cpu", which: folders.Which = "best") -> Trained:
        """Return the model in `folder`: one that was pulled, a checkpoint, or a run, whose best or last checkpoint is
        taken. Every file is verified first; nothing is unpickled, and no code of the folder is run.

        Raise CheckpointError where there is none, where a file is not what was written, and where it was made by
        another version, or with parts that no installed package has.
        """
        from safetensors.torch import load_file

        stored = folders.read(Path(folder), which)
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            model = stored.config.model.build(stored.shape).to(getattr(torch, stored.config.dtype))
        try:
            model.load_state_dict(load_file(stored.weights))
        except RuntimeError as error:
            raise IncompatibleCheckpoint(f"{stored.weights} has other weights than its config names: {error}") from None
        origin = Origin(folder=stored.folder, step=stored.step, metrics=stored.metrics, vocabulary=stored.vocabulary)
        return cls(model, stored.config, stored.shape, device=device, origin=origin)

    @cached_property
    def space(self) -> LatentSpace:
        """Return the model as one of a single latent vector. Raise ValueError where it is none."""
        if not isinstance(self.model, LatentSpace):
            names = ", ".join(self.config.model.latents())
            raise checks.Refused(
                f"this needs a model of one latent vector, and {self.config.model.kind} has {names}: reconstruct, "
                "sample and score take any model"
            )
        return self.model

    @property
    def latent(self) -> int:
        """Return the dimensions of z. Raise ValueError for a model of several latents."""
        assert self.space is not None  # or it has raised
        (layer,) = self._model.latents().values()
        return math.prod(layer.shape)

    def encode(self, x: Any, *, beta: float | None = None) -> Encoded:
        """Return mean and standard deviation of q(z|x) of data [n, *shape], each [n, latent]."""
        gates, space = self.gates(beta), self.space

        def batch(rows: Tensor) -> dict[str, Tensor]:
            encoding = space.encode(rows, gates)
            tensors = {"mean": encoding.mean}
            return tensors if encoding.log_std is None else {**tensors, "std": encoding.log_std.exp()}

        made = self._mapped(batch, self.form.data_of(x))
        return Encoded(*(like(x, made.get(name)) for name in ("mean", "std")))

    def decode(self, z: Any, *, beta: float | None = None) -> Any:
        """Return E[x|z], [n, *shape], of latents [n, latent]."""
        return like(z, self.decoded(self.form.latents_of(z, self.latent), beta))

    def reconstruct(self, x: Any, *, beta: float | None = None) -> Any:
        """Return E[x|z] at the posterior's mean, [n, *shape], of data [n, *shape]: without chance."""
        gates, model = self.gates(beta), self._model

        def batch(rows: Tensor) -> dict[str, Tensor]:
            return {"mean": model(rows, self._middle(model.noise(), len(rows)), gates).mean}

        return like(x, self._mapped(batch, self.form.data_of(x))["mean"])

    def sample(
        self,
        n: int,
        *,
        sampler: str = "prior",
        temperature: float = 1.0,
        seed: int = 0,
        form: str = "means",
        beta: float | None = None,
        first: int = 0,
    ) -> NDArray[Any]:
        """Return n samples, [n, *shape]: those numbered first, first + 1, ... of this seed.

        sampler:     the law of z, one of `samplers`
        temperature: what the standard normal noise of z is multiplied by: below 1 samples are more alike
        form:        "means": E[x|z]; "samples": x ~ p(x|z), with the noise of the data; "latents": z, [n, latent]
        """
        count, gates, model = checks.whole("n", n, 0, bounds.DATA), self.gates(beta), self._model
        law, warmth = self._laws.of(sampler, beta, self.device), checks.real("temperature", temperature, 0, bounds.REAL)
        if isinstance(self.model, HasPrediction):
            raise checks.Refused(
                f"model {self.config.model.kind} continues a beginning that it is given, and samples nothing without "
                "one: give it beginnings, and have them continued"
            )
        drawn = checks.one_of("form", form, FORMS) == "samples"
        assert form != "latents" or self.space is not None  # or it has raised
        if drawn and not model.sampled:
            raise checks.Refused("form 'samples' given, and x cannot be drawn from this model's likelihood: means can")
        of_z, of_x = law.noise(model), x_noise(model) if drawn else {}
        make, made = {"means": law.means, "samples": law.draws, "latents": law.z}[form], []
        with torch.inference_mode():
            for start in range(0, max(1, count), BATCH):
                some, place = min(BATCH, count - start), first + start
                z = tempered(self._noise(of_z, some, first=place, seed=seed, stream="samples"), of_z, warmth)
                x = self._noise(of_x, some, first=place, seed=seed, stream="samples")
                made.append(make(model, {**z, **x}, gates).cpu())
        return torch.cat(made).numpy()

    def continued(
        self,
        x: Any,
        *,
        frames: int | None = None,
        form: str = "means",
        seed: int = 0,
        beta: float | None = None,
        first: int = 0,
    ) -> Any:
        """Return the frames after the beginnings of x, [n, frames, *frame]: of a model that continues videos.

        x:      [n, time, *frame] or laid flat, of any length from the model's context on, which alone is read
        frames: how many; None: as many as followed the context in training
        form:   "means": each frame's E[x_t|.], from which the next is predicted; "samples": each frame drawn, and the
                next given it as it was drawn
        seed:   another one is another future; first: the number of the first datum
        """
        model, drawn = self._continuing(), checks.one_of("form", form, FORMS[:2]) == "samples"
        count = checks.whole("frames", self.shape[0] - model.context if frames is None else frames, 1, bounds.LISTED)
        data, gates = self.form.beginnings_of(x, model.context), self.gates(beta)
        specs = model.drawn_prediction_noise(count) if drawn else model.prediction_noise(count)
        predict = model.draw_prediction if drawn else model.predict
        made = []
        with torch.inference_mode():
            for start, rows in zip(range(0, max(1, len(data)), BATCH), self._batches(data), strict=True):
                noise = self._noise(specs, len(rows), first=first + start, seed=seed, stream="prediction")
                made.append(predict(rows, count, noise, gates).cpu())
        return like(x, torch.cat(made))

    def _continuing(self) -> HasPrediction:
        if not isinstance(self.model, HasPrediction):
            raise checks.Refused(f"this needs a model that continues videos, and {self.config.model.kind} does not")
        return self.model

    def score(
        self,
        x: Any,
        *,
        samples: int = SAMPLES,
        seed: int = 0,
        beta: float | None = None,
        lengths: Any = None,
        first: int = 0,
    ) -> dict[str, Any]:
        """Return of each datum, float64 [n], in nats: "elbo", "nll" by `samples` samples, "rate" and "distortion" (see
        `scores.of_batch`). Of a model whose q(z|x) has no density there is the distortion alone.

        lengths: [n], where data have lengths of their own
        first:   the number of the first datum, so that parts of a whole are scored as the whole is
        """
        data, count = self.form.data_of(x), checks.whole("samples", samples, 1, bounds.SAMPLES)
        own = checks.lengths_of(lengths, len(data), self.config.data)
        masks = Masks(own, self.shape, self.config.data.facts.axes, self.device)
        gates, model = self.gates(beta), self._model
        made: list[Mapping[str, Tensor]] = []
        with torch.inference_mode():
            for start in range(0, max(1, len(data)), random.NOISE_BLOCK):
                rows = torch.from_numpy(data[start : start + random.NOISE_BLOCK]).to(self.device)
                values = self._noise(model.noise(count), len(rows), first=first + start, seed=seed, stream="score")
                mask = masks.of(torch.arange(start, start + len(rows)))
                made.append(scores.of_batch(model, rows, values, count, gates, mask))
        return {name: like(x, torch.cat([each[name].cpu() for each in made])) for name in made[0]}

    def interpolate(
        self,
        a: Any,
        b: Any,
        *,
        steps: int = 8,
        how: str = "linear",
        seed: int = 0,
        beta: float | None = None,
    ) -> Any:
        """Return E[x|z] along the way from the latent of each a to that of its b: [n, steps, *shape], a and b data
        [n, *shape]. how: linear or slerp (`metrics.paths`), or graph: the shortest by the decoder's metric over a graph
        of samples drawn by `seed` (`geodesics`); between the means of q(z|x).
        """
        return walks.interpolate(self, a, b, steps=steps, how=how, seed=seed, beta=beta)

    def traverse(
        self,
        x: Any,
        *,
        dimensions: Sequence[int] | None = None,
        top: int = 8,
        steps: int = 7,
        low: float = -3.0,
        high: float = 3.0,
        beta: float | None = None,
    ) -> Traversal:
        """Return E[x|z] while one dimension of z goes from `low` to `high`, the others at the posterior's mean of x.

        dimensions: which, from 0; None: the `top` ones by the mean over x of KL(q(z_j|x) || N(0, 1)), largest first
                    (of an encoder without a density, by the mean of z_j^2)
        """
        chosen = walks.Traverse(dimensions=dimensions, top=top, steps=steps, low=low, high=high)
        return walks.traverse(self, x, chosen, beta=beta)

    def informative(self, x: Any, *, beta: float | None = None) -> NDArray[np.int64]:
        """Return the dimensions of z by what they carry of x on average, most first: see `traverse`."""
        return walks.informative(self.encode(self.form.data_of(x), beta=beta))

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return what `tasks.perform` does: what `mlflow.pyfunc` and `mlflow models serve` call. Without `params`: the
        reconstructions.
        """
        from vae_models.trained import tasks

        return tasks.perform(self, model_input, params)

    @property
    def samplers(self) -> tuple[str, ...]:
        """Return the names of the laws of z that `sample` knows: see `laws.Laws`."""
        return self._laws.names

    def add_samplers(self, fetch: Callable[[], Mapping[str, Fitted]]) -> None:
        """Have `fetch` called, once, for samplers by name when one is asked for that neither the model nor its folder
        has."""
        self._laws.add(fetch)

    @property
    def _model(self) -> Model:
        return cast(Model, self.model)

    def gates(self, beta: float | None) -> Tensor | None:
        """Return beta, checked, as a multi-rate model's gates read it."""
        chosen = checks.beta_of(beta, self.config)
        return None if chosen is None else torch.tensor(chosen, dtype=self.dtype, device=self.device)

    def _noise(
        self, specs: Mapping[str, NoiseSpec], count: int, *, first: int, seed: int, stream: str
    ) -> dict[str, Tensor]:
        """Return what an evaluation by this seed draws for a stream of this name, too."""
        number = checks.whole("seed", seed, 0, bounds.SEED)
        name = f"evaluation/{stream}"
        return random.draw_rows(
            specs, count, first=first, seed=number, stream=name, device=self.device, dtype=self.dtype
        )

    def _middle(self, specs: Mapping[str, NoiseSpec], count: int) -> dict[str, Tensor]:
        """Return the middle of every noise: a posterior's z becomes its mean."""
        return {
            name: torch.full((count, *spec.shape), MIDDLE[spec.kind], dtype=self.dtype, device=self.device)
            for name, spec in specs.items()
        }

    def decoded(self, z: NDArray[Any], beta: float | None) -> Tensor:
        """Return E[x|z], [n, *shape], on the CPU, of latents that are checked."""
        gates, space = self.gates(beta), self.space
        return self._mapped(lambda rows: {"mean": space.decode(rows, gates)}, z)["mean"]

    def _mapped(self, function: Callable[[Tensor], Mapping[str, Tensor]], data: NDArray[Any]) -> dict[str, Tensor]:
        """Return what `function` makes of batches of data, by name, on the CPU."""
        with torch.inference_mode():
            made = [{name: each.cpu() for name, each in function(rows).items()} for rows in self._batches(data)]
        return {name: torch.cat([each[name] for each in made]) if len(made) > 1 else made[0][name] for name in made[0]}

    def _batches(self, data: NDArray[Any]) -> Iterator[Tensor]:
        for start in range(0, max(1, len(data)), BATCH):  # none are one batch of none, whose shape is known so
            yield torch.from_numpy(data[start : start + BATCH]).to(self.device)
