"""What the other papers compare: sigma-VAE's sweep of beta, VHP's rules for beta, AR-ELBO's variances.

sigma-VAE and AR-ELBO compare by FID; here the ELBO of the validation split decides, at unit variance and at the fitted
or trained one. Three seeds, which the papers leave open.
"""

from __future__ import annotations

from functools import partial

from tuning.searches.search import Search, recipe
from tuning.space import Values
from tuning.study import StageConfig, StudyConfig

SEEDS = (0, 1, 2)
BETAS = (100.0, 10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)


def sweep(base: str) -> StudyConfig:
    stage = StageConfig(name="betas", space={"beta.value": Values(values=BETAS)}, repeats=SEEDS)
    return StudyConfig(base=recipe(base), stages=(stage,))


def parts(base: str, path: str, recipes: tuple[str, ...], name: str) -> StudyConfig:
    """Return a study of one part of the configuration, taken from each of the recipes in turn."""
    values = []
    for each in recipes:
        value = recipe(each).model_dump(mode="json")
        for step in path.split("."):
            value = value[step]
        values.append(value)
    stage = StageConfig(name=name, space={path: Values(values=tuple(values))}, repeats=SEEDS)
    return StudyConfig(base=recipe(base), stages=(stage,))


def _rules(data: str) -> StudyConfig:
    systems = ("vhp-rewo", "vhp-geco", "vhp-warmup-20", "vhp-warmup-200")
    return parts(f"{data}/vhp-rewo", "beta", tuple(f"{data}/{system}" for system in systems), "rules")


def _variances(data: str) -> StudyConfig:
    systems = ("ar-elbo-iso-i", "trained-iso-i", "ar-elbo-diag-i", "trained-diag-i")
    recipes = tuple(f"{data}/{system}" for system in systems)
    return parts(f"{data}/ar-elbo-iso-i", "model.likelihood", recipes, "variances")


# of sigma^2: table 1's log10 from 0 to -1 and table E.8's from 1 to -1, in steps of 0.1
TABLE_1 = tuple(round(10 ** (-k / 20), 6) for k in range(11))
TABLE_E8 = tuple(round(10 ** (k / 20), 6) for k in range(10, -11, -1))


def sigmas(base: str, path: str, values: tuple[float, ...], metric: str) -> StudyConfig:
    """Return a study with a run for each standard deviation and seed;
    MSE and KL of the training set: `train_eval/...`.
    """
    stage = StageConfig(name="variances", space={path: Values(values=values)}, repeats=SEEDS, metric=metric)
    return StudyConfig(base=recipe(base), stages=(stage,))


SEARCHES = [
    *(
        Search(
            name=f"searches/{data}/gaussian-vae", paper="sigma-VAE", section="section 5, appendix B",
            summary="beta-VAE of unit variance with beta 100, 10, ..., 0.0001; 3 seeds",
            build=partial(sweep, f"{data}/gaussian-vae"),
        )
        for data in ("svhn", "celeba", "cifar10")
    ),
    *(
        Search(
            name=f"searches/{data}/vhp", paper="VHP", section="section 4, appendix B",
            summary="REWO, GECO, and warm-up over 20 and 200 epochs; 3 seeds", build=partial(_rules, data),
        )
        for data in ("pendulum", "cmu-motion", "binarized-mnist", "mnist", "fashion-mnist", "omniglot")
    ),
    *(
        Search(
            name=f"searches/{data}/ar-elbo", paper="AR-ELBO", section="section 6",
            summary="variances fitted by maximum likelihood against trained ones, one or one for each element; 3 seeds",
            build=partial(_variances, data),
        )
        for data in ("mnist", "celeba")
    ),
    *(
        Search(
            name=f"searches/mnist/{system}", paper="AR-ELBO", section=section, summary=f"{what}; 3 seeds",
            build=partial(sigmas, f"mnist/{system}", path, values, metric),
        )
        for system, section, what, path, values, metric in (
            (
                "fixed-variance", "section 4.2, table 1", "log10 sigma_x^2 0, -0.1, ..., -1, stochastic encoding",
                "model.likelihood.sigma", TABLE_1, "val/elbo",
            ),
            (
                "fixed-variance-deterministic", "section 4.2, table 1",
                "log10 sigma_x^2 0, -0.1, ..., -1, deterministic encoding",
                "model.likelihood.sigma", TABLE_1, "val/squared_error",
            ),
            (
                "fixed-posterior-variance", "appendix E, table E.8", "log10 sigma_z^2 1, 0.9, ..., -1",
                "model.posterior.sigma", TABLE_E8, "val/elbo",
            ),
        )
    ),
]  # fmt: skip
