"""The loader that a registered model names in its MLmodel: MLflow calls `_load_pyfunc` of this installed module.

The stored model is data alone (safetensors, JSON, YAML), its sums are checked, and no code of it is run. This module
needs neither mlflow nor the rest of the service. That the service made the model, and nobody else, is what
`vaesvc.load` checks before it comes here; MLflow does not.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service import __version__
from service.code.reference import CodeRef, present
from service.directories import MANIFEST, altered, read_manifest
from service.errors import NeedsCodeError, StorageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vae_models.config.train import TrainConfig
    from vae_models.records import NoiseSpec

# what x is, for people, by support
VALUES = {
    "bits": "binary, or the probability of a one",
    "bytes": "the levels k/255 of bytes k",
    "unit": "real numbers in [0, 1]",
}
MODEL, CONFIG = "model.safetensors", "config.json"
CODE = "code"  # of the manifest: the user's own package that the model needs
BATCH = 256


class Reconstructor:
    """E[x|z] at the posterior's mean: what the model makes of each datum, without chance."""

    def __init__(self, model: nn.Module, config: TrainConfig, shape: tuple[int, ...]) -> None:
        """Keep the model. shape: of one datum, such as (channels, height, width)."""
        self.model = model
        self.config = config
        self.shape = shape

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> NDArray[Any]:
        """Return what the model makes of data [n, *shape]: [n, *shape of a mean]. Rows of a data frame, or of an array
        [n, elements], are data laid flat.

        x is what the model was trained on, by the support of its data: in [0, 1] for bytes (divided by 255) and bits,
        any finite number for reals (joint angles, images with noise), whole numbers below the vocabulary's for tokens.
        Raises ValueError for other shapes and values, with what is allowed.
        """
        import torch

        data = self._checked(model_input)
        means = []
        with torch.inference_mode():
            for start in range(0, max(1, len(data)), BATCH):  # none are one batch of none, whose shape is known so
                x = torch.from_numpy(data[start : start + BATCH])
                means.append(self.model(x, self._noise(len(x))).mean.numpy())
        return means[0] if len(means) == 1 else np.concatenate(means)

    def _checked(self, model_input: Any) -> NDArray[Any]:
        facts, support = self.config.data.facts, self.config.data.support
        values = model_input.to_numpy() if hasattr(model_input, "to_numpy") else np.asarray(model_input)
        elements = math.prod(self.shape)
        if values.shape[1:] not in (self.shape, (elements,)):
            raise ValueError(f"data of shape {values.shape} given; this model takes {self._shapes()}")
        try:
            numbers = np.ascontiguousarray(values, dtype=self.config.dtype).reshape(-1, *self.shape)
        except (TypeError, ValueError) as error:
            raise ValueError(f"values of type {values.dtype} given: this model takes numbers") from error
        if not np.isfinite(numbers).all():
            raise ValueError("NaN or infinite values given: this model takes finite numbers")
        if support == "tokens":
            return tokens(numbers, facts.vocabulary or 0)
        if support != "reals" and not ((numbers >= 0).all() and (numbers <= 1).all()):
            mend = "" if support == "unit" else ": divide bytes by 255 first"
            raise ValueError(f"values outside [0, 1] given, and the data of this model are {VALUES[support]}{mend}")
        return numbers

    def _shapes(self) -> str:
        flat, axes = f"[n, {math.prod(self.shape)}]", self.config.data.facts.axes
        if len(self.shape) == 1:
            return flat
        named = f" ({', '.join(axes)})" if len(axes) == len(self.shape) else ""
        return f"{flat} or [n, {', '.join(map(str, self.shape))}]{named}"

    def _noise(self, batch: int) -> dict[str, Tensor]:
        """Return the middle of every noise that the model draws: z becomes the posterior's mean."""
        import torch

        specs: Mapping[str, NoiseSpec] = self.model.noise()  # type: ignore[operator]
        middle, dtype = {"normal": 0.0, "uniform": 0.5}, getattr(torch, self.config.dtype)
        return {name: torch.full((batch, *spec.shape), middle[spec.kind], dtype=dtype) for name, spec in specs.items()}


def tokens(numbers: NDArray[Any], vocabulary: int) -> NDArray[np.int64]:
    """Return them as whole numbers. Raises ValueError for what is no token."""
    whole = numbers.astype(np.int64)
    if not ((whole >= 0).all() and (whole < vocabulary).all() and (whole == numbers).all()):
        raise ValueError(f"values that are no tokens given: this model takes whole numbers from 0 to {vocabulary - 1}")
    return whole


def _load_pyfunc(path: str) -> Reconstructor:
    """Load the model: MLflow calls this."""
    return load_directory(Path(path))


def check_code(needed: Mapping[str, str] | None, what: str) -> None:
    """Raise NeedsCodeError unless this process has the package that a model needs. None is ever imported unasked."""
    if needed is None:
        return
    ref, here = CodeRef.model_validate(needed), present()
    if here != ref.digest:
        has = "no package of own code" if here is None else f"another one (SHA-256 {here[:12]}...)"
        raise NeedsCodeError(
            f"{what} needs the package {ref}, which a user wrote, and this process has {has}. Loading the model runs "
            "that code with your rights. If you trust it, say so: vaesvc.load(NAME, code='trust'), or, before another "
            "loader, vaesvc.use_code(PATH), PATH its source or its wheel, which `vaesvc pull` puts into code/"
        )


def load_directory(directory: Path) -> Reconstructor:
    """Load a model. Raises CorruptObjectError, naming file and sums, if the directory differs from its manifest,
    StorageError for a configuration of another version."""
    import torch
    from pydantic import ValidationError
    from safetensors.torch import load_file

    from vae_models.config.train import TrainConfig
    from vae_models.measures import STORED

    manifest = (directory / MANIFEST).read_bytes()
    check_code(json.loads(manifest).get(CODE), str(directory))
    for name, (sha256, _) in read_manifest(manifest, str(directory / MANIFEST)).items():
        with (directory / name).open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != sha256:
            raise altered(str(directory / name), sha256, actual)
    try:
        config = TrainConfig.model_validate_json((directory / CONFIG).read_bytes(), context=STORED)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StorageError(
            f"{directory / CONFIG} is not understood by vaesvc {__version__} ({place}: {first['msg']}): it was made by "
            f"another version, which MLmodel beside it names; install that one to load this model"
        ) from error
    shape = tuple(json.loads(manifest)["data_shape"])
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        model = config.model.build(shape).to(getattr(torch, config.dtype))
    model.load_state_dict(load_file(directory / MODEL))
    return Reconstructor(model.eval(), config, shape)
