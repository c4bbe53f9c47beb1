"""A trained model in use, with PyTorch alone: `Trained.load(folder)`.

    folders.py   which files of a folder are the model: a pulled one, a checkpoint, a run
    checks.py    what is asked of data, latents and settings before a model sees them
    model.py     `Trained`: encode, decode, reconstruct, sample, continued, score, interpolate, traverse
    records.py   what it returns
    laws.py      the laws of z that samples are drawn by
    scores.py    ELBO and log-likelihood of each datum
    walks.py     interpolations and traversals; geodesics.py: shortest ways by the decoder's metric
    params.py    tasks' names and settings, without torch
    tasks.py     the same by name and settings, as `mlflow.pyfunc` asks for it
    export.py    encoder and decoder as programs that need torch alone
    card.py      what there is to know about a model, in Markdown

What a model cannot take is told by `checks.Refused`, a ValueError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vae_models.trained.model import Trained

__all__ = ["Trained"]


def __getattr__(name: str) -> Any:
    """Return `Trained`: torch is loaded when it is first asked for, and not by who reads `params`."""
    if name != "Trained":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vae_models.trained.model import Trained

    return Trained
