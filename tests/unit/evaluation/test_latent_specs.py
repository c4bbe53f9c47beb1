"""Which evaluators of the latent suit which models and data, by what those declare."""

from __future__ import annotations

import pytest

from vae_models.evaluation.run import chosen
from vae_models.evaluation.specs import EvaluationPlan
from vae_models.recipes import catalogue

OURS = {"latent", "mutual-information", "smoothness", "angle", "disentanglement", "probes", "scatter"}
WITHOUT_LABELS = {"latent", "mutual-information", "smoothness", "scatter"}


@pytest.mark.parametrize(
    ("recipe", "suiting"),
    [
        ("digits/beta-vae-mlp", WITHOUT_LABELS | {"probes"}),
        ("binarized-mnist/beta-vae-mlp", WITHOUT_LABELS),
        ("pendulum/vhp-rewo", WITHOUT_LABELS | {"probes", "angle"}),
        ("cmu-motion/vhp-rewo", WITHOUT_LABELS | {"probes"}),
        ("mnist/wae-mmd", (WITHOUT_LABELS | {"probes"}) - {"mutual-information"}),
        ("dsprites/beta-tcvae", WITHOUT_LABELS | {"probes", "disentanglement"}),
        ("digits/nvae-tiny", {"latent"}),
    ],
)
def test_what_suits(recipe: str, suiting: set[str]) -> None:
    config = catalogue()[recipe].build()
    kinds = {spec.kind for spec in chosen(EvaluationPlan(), config).values()}
    assert kinds & OURS == suiting


@pytest.mark.parametrize("kind", sorted(OURS - {"latent"}))
def test_a_model_of_several_latents_is_refused_in_words(kind: str) -> None:
    plan = EvaluationPlan.model_validate({"evaluators": [{"kind": kind}]})
    with pytest.raises(ValueError, match=f"{kind}: it needs a model of one latent vector, and nvae has z"):
        chosen(plan, catalogue()["digits/nvae-tiny"].build())


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("probes", "it needs labels, and binarized-mnist has none"),
        ("disentanglement", "it compares two factors or more, and the labels of binarized-mnist are "),
        ("angle", "it needs data whose one label is an angle in rad, and binarized-mnist has "),
    ],
)
def test_missing_labels_are_said_before_anything_is_computed(kind: str, why: str) -> None:
    plan = EvaluationPlan.model_validate({"evaluators": [{"kind": kind}]})
    with pytest.raises(ValueError, match=f"^{kind}: {why}"):
        chosen(plan, catalogue()["binarized-mnist/beta-vae-mlp"].build())
