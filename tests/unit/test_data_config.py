"""`data` of a specification: names of sources with their facts, sets of one's own, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from service.errors import UsageError
from service.kinds.train import spec
from tuning.space import with_values
from vae_models.backbones.specs import BACKBONES
from vae_models.config.compatibility import check_data
from vae_models.config.train import TrainConfig
from vae_models.data.config import DataConfig
from vae_models.data.sources import SOURCES
from vae_models.data.spec import DataSpec
from vae_models.measures import STORED

DIGEST = "0f" * 32
VECTORS: dict[str, Any] = {"shape": [7], "axes": ["feature"], "support": "reals", "sizes": [90, 5, 5]}
OWN: dict[str, Any] = {"name": "joints", "digest": DIGEST, "facts": VECTORS}


@pytest.mark.parametrize("name", SOURCES.kinds())
def test_a_name_fills_in_the_facts_and_is_itself_again(name: str) -> None:
    config = DataConfig(name=name)
    assert config.facts == SOURCES.get(name).facts
    assert DataConfig.model_validate_json(config.model_dump_json()) == config


def test_a_set_of_ones_own_is_a_digest_and_facts() -> None:
    config = DataConfig.model_validate(OWN)
    assert config.facts == DataSpec.model_validate(VECTORS)
    assert DataConfig.model_validate(config.model_dump(mode="json")) == config
    told_inside = {"name": "joints", "facts": VECTORS | {"digest": DIGEST}}
    assert DataConfig.model_validate(told_inside) == config


@pytest.mark.parametrize(
    ("given", "place", "said"),
    [
        ({"name": "minst"}, "name", "did you mean mnist?"),
        ({"name": "minst"}, "name", "caltech-silhouettes"),
        ({"name": "minst"}, "name", "vaesvc data add minst PATH"),
        ({"name": "joints", "facts": VECTORS}, "name", "there is no data set 'joints'"),
        ({"name": "joints", "digest": DIGEST}, "facts", "needs its facts"),
        ({"name": "mnist", "digest": DIGEST}, "digest", "give yours another name"),
        (OWN | {"digest": "0f"}, "digest", "pattern"),
        (OWN | {"facts": VECTORS | {"digest": "ab" * 32}}, "", "is of another set than its facts"),
        (OWN | {"facts": VECTORS | {"axes": ["height"] * 2}}, "facts", "must name each"),
    ],
)
def test_a_mistake_is_told_where_it_is(given: dict[str, Any], place: str, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        DataConfig.model_validate(given)
    (detail,) = refused.value.errors()
    assert ".".join(map(str, detail["loc"])).startswith(place)
    assert said in detail["msg"]


def test_facts_that_contradict_the_sources_are_refused() -> None:
    facts = DataConfig(name="digits").facts.model_copy(update={"shape": (1, 9, 9)})
    with pytest.raises(ValidationError, match=r"facts contradict those of digits: shape \[1, 9, 9\], not \[1, 8, 8\]"):
        DataConfig(name="digits", facts=facts)


def test_what_was_stored_stays_readable() -> None:
    """From before there were facts; and of a package's source that is not installed here."""
    assert DataConfig.model_validate({"name": "digits"}, context=STORED) == DataConfig(name="digits")
    theirs = {"name": "theirs", "facts": VECTORS}
    assert DataConfig.model_validate(theirs, context=STORED).facts.shape == (7,)
    older = DataConfig(name="digits").facts.model_copy(update={"sizes": (1, 2, 3)})
    stored = {"name": "digits", "facts": older.model_dump()}
    assert DataConfig.model_validate(stored, context=STORED).facts == older


def test_another_name_brings_its_own_facts() -> None:
    assert spec.resolve("digits/beta-vae-mlp", ["data.name=mnist"]).train.data == DataConfig(name="mnist")
    base = spec.resolve("digits/beta-vae-mlp").train
    assert with_values(base, {"data.name": "mnist"}).data == DataConfig(name="mnist")
    assert with_values(base, {"data": {"name": "mnist"}}).data == DataConfig(name="mnist")
    own = with_values(base, {"data": OWN, "model.likelihood": {"kind": "gaussian"}})
    assert own.data == DataConfig.model_validate(OWN)
    assert with_values(own, {"data.name": "digits"}).data == DataConfig(name="digits")


@pytest.mark.parametrize(
    ("data", "likelihood", "said"),
    [
        (OWN, "bernoulli", "takes x that is binary, .* x here is real and unbounded: choose gaussian"),
        (OWN, "categorical", "x here is real and unbounded: choose gaussian"),
        (OWN | {"binarize": "threshold"}, "bernoulli", "those of joints are unbounded"),
        (OWN | {"noise": {"kind": "gaussian"}}, "gaussian", "joints has no digits"),
    ],
)
def test_what_does_not_go_together_follows_from_the_facts(data: dict[str, Any], likelihood: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TrainConfig.model_validate({"data": data, "model": {"likelihood": {"kind": likelihood}}, "steps": 1})


@pytest.mark.parametrize("kind", [kind for kind, spec in BACKBONES.all().items() if spec.axes is not None])
def test_networks_for_images_take_no_vectors(kind: str) -> None:
    model = {"likelihood": {"kind": "gaussian"}, "backbone": {"kind": kind}}
    with pytest.raises(ValidationError, match=f"{kind} takes data of channel, height, width, .* feature: choose mlp"):
        TrainConfig.model_validate({"data": OWN, "model": model, "steps": 1})


def test_data_of_other_dimensions_than_the_facts_are_refused() -> None:
    config = TrainConfig.model_validate({"data": OWN, "model": {"likelihood": {"kind": "gaussian"}}, "steps": 1})
    check_data(config, (9,), 90)
    with pytest.raises(ValueError, match=r"joints are \[7\] \(feature\), .* have the shape \[1, 1, 7\]"):
        check_data(config, (1, 1, 7), 90)


def test_more_data_in_a_batch_than_there_are_is_told_of_ones_own_too() -> None:
    train = {"data": OWN, "model": {"likelihood": {"kind": "gaussian"}}, "steps": 1, "batch_size": 91}
    with pytest.raises(UsageError, match="batch_size: 91 is more than the 90 training data of joints"):
        spec.resolve({"train": train})


def test_json_schema_names_the_sources() -> None:
    assert DataConfig.model_json_schema()["properties"]["name"]["examples"] == list(SOURCES.kinds())
