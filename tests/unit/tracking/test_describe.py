from __future__ import annotations

import json
import typing

import pytest

from service.tracking import describe
from tests.jobs import make_job
from vae_models.topologies.vae.specs import ModelConfig


def test_flatten() -> None:
    config = {
        "seed": 0,
        "clip": None,
        "beta": {"kind": "warmup", "epochs": 10.0},
        "model": {"kind": "vae", "backbone": {"kind": "mlp", "hidden": [256, 256]}},
    }
    assert dict(describe.flatten(config)) == {
        "seed": "0",
        "clip": "none",
        "beta": "warmup",
        "beta.epochs": "10.0",
        "model": "vae",
        "model.backbone": "mlp",
        "model.backbone.hidden": "[256, 256]",
    }


def test_params_leave_out_what_the_result_does_not_depend_on() -> None:
    params = describe.params(make_job())
    assert params["data.name"] == "digits"
    assert params["recipe"] == "digits/beta-vae-mlp"
    assert not {"evaluation", "checkpoint", "log_every_steps"} & {key.split(".")[0] for key in params}


def test_params_and_tags_keep_to_the_limits() -> None:
    job = make_job()
    spec = json.loads(json.dumps(job.spec))
    spec["train"]["model"]["backbone"]["hidden"] = list(range(5000))
    long = job.model_copy(update={"spec": spec})
    assert max(map(len, describe.params(long).values())) == describe.PARAM_LENGTH
    assert "vaesvc.spec" not in describe.tags(long, 1)
    assert json.loads(describe.tags(job, 1)["vaesvc.spec"]) == job.spec


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ((), "digits (density)"),
        (("model.likelihood.kind=bernoulli",), "digits (mass)"),
        (("data.binarize=dynamic", "model.likelihood.kind=bernoulli"), "digits-dynamic (mass)"),
        (("model.likelihood.kind=categorical",), "digits (mass of 256 levels)"),
        (("data.noise={kind: gaussian, pattern: spatial}",), "digits-spatial-0.01 (density)"),
    ],
)
def test_one_experiment_for_what_can_be_compared(overrides: tuple[str, ...], name: str) -> None:
    assert describe.experiment_name(make_job(overrides=overrides)) == name


def test_a_run_says_which_package_of_own_code_it_has() -> None:
    job = make_job()
    assert not {describe.CODE, describe.CODE_DIGEST} & describe.tags(job, 1).keys()
    code = {"digest": "a" * 64, "name": "my-parts", "version": "1.0"}
    own = job.model_copy(update={"spec": {**job.spec, "code": code}})
    tags = describe.tags(own, 1)
    assert (tags["vaesvc.code"], tags["vaesvc.code_sha256"]) == ("my-parts 1.0", "a" * 64)
    assert describe.params(own)["code"] == "a" * 64


def test_every_likelihood_has_its_measure() -> None:
    """The configs spare the dispatcher an import of torch: they must say what the likelihoods say."""
    configs = typing.get_args(ModelConfig.model_fields["likelihood"].annotation)
    assert len(configs) > 5
    for config in configs:
        kind = config.model_fields["kind"].default
        assert config().build((1, 1, 1)).measure == config.measure
        said = describe.measure({"model": {"likelihood": {"kind": kind}}})
        assert said.startswith(config.measure)
        assert (said == "mass of 256 levels") == (config.levels == 256)


def test_versions_are_read_without_imports() -> None:
    assert describe.versions().keys() == {"python", "vaesvc", "torch", "ray", "mlflow"}
