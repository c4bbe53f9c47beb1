"""A linear-Gaussian model in an evaluation: x ~ N(0, S), q(z|x) = N(E x, diag C), E[x|z] = D z, all in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

from vae_models.config.train import TrainConfig
from vae_models.data.records import Dataset, Split
from vae_models.data.spec import LabelSpec
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.evaluation.subject import Subject
from vae_models.topologies.vae.model import VAE

DIMENSIONS, LATENT = 4, 2
ENCODER = torch.tensor([[1.0, 0.5, -0.5, 0.2], [0.3, -1.0, 0.4, 0.6]], dtype=torch.float64)
DECODER = torch.tensor([[1.0, 0.2], [0.5, -1.0], [-0.3, 0.4], [0.1, 2.0]], dtype=torch.float64)
STD = torch.tensor([0.5, 0.8], dtype=torch.float64)
ROOT = torch.tensor(  # S is its square
    [[1.0, 0.0, 0.0, 0.0], [0.4, 0.9, 0.0, 0.0], [-0.2, 0.1, 1.1, 0.0], [0.3, 0.0, 0.2, 0.7]], dtype=torch.float64
)
FACTS = {"shape": [DIMENSIONS], "axes": ["feature"], "support": "reals", "sizes": [2, 2, 2]}


def covariance() -> Tensor:
    """S, of x."""
    return ROOT @ ROOT.T


def data(count: int, seed: int = 0) -> Tensor:
    """Draws of x, float32 [count, dimensions]."""
    noise = torch.randn(count, DIMENSIONS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (noise @ ROOT.T).float()


def subject(
    x: Tensor,
    *,
    train: Tensor | None = None,
    labels: tuple[Tensor | None, Tensor | None] = (None, None),
    spec: LabelSpec | None = None,
    encoder: Tensor = ENCODER,
    std: Tensor | None = STD,
    model: dict[str, object] | None = None,
    **plan: object,
) -> Subject:
    """The model on its data. labels: of train and of test; std None: a deterministic encoder; plan: its fields."""
    facts = {**FACTS, "labels": None if spec is None else spec.model_dump(mode="json")}
    posterior = {"kind": "delta"} if std is None else {"kind": "diagonal-normal"}
    config = TrainConfig.model_validate(
        {
            "data": {"name": "gaussian", "digest": "0" * 64, "facts": facts},
            "model": {
                "latent": len(encoder), "backbone": {"kind": "mlp", "hidden": []}, "likelihood": {"kind": "gaussian"},
                "posterior": posterior, **(model or {}),
            },
            "objective": {"kind": "ae"} if std is None else {"kind": "elbo"},
            "checkpoint": {"metric": "val/distortion"},
            "steps": 1, "batch_size": 1, "dtype": "float64",
        }
    )  # fmt: skip
    splits = {"train": Split(x=x if train is None else train, labels=labels[0]), "test": Split(x=x, labels=labels[1])}
    dataset = Dataset(name="gaussian", val=splits["test"], shape=(DIMENSIONS,), labels=spec, **splits)
    built = config.model.build((DIMENSIONS,)).double()
    assert isinstance(built, VAE)
    _set(built, encoder, std)
    return Subject(built, config, dataset, EvaluationPlan.model_validate(plan))


@torch.no_grad()
def _set(model: VAE, encoder: Tensor, std: Tensor | None) -> None:
    heads, decoder = model.backbone.heads, model.backbone.decoder[1]  # type: ignore[attr-defined, index]
    for parameter in (*heads.parameters(), *decoder.parameters()):
        parameter.zero_()
    heads.mean.weight.copy_(encoder)
    used = min(len(encoder), LATENT)
    decoder.weight[:, :used] = DECODER[:, :used]
    if std is not None:
        heads.raw.bias.copy_(2 * std.log())
