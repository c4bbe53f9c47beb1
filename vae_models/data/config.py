"""Which data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from vae_models import bounds
from vae_models.data import named
from vae_models.data.noises import NoiseConfig, NoNoiseConfig
from vae_models.data.sources import SOURCES
from vae_models.data.spec import DataSpec, Digest, Support
from vae_models.measures import is_stored
from vae_models.open_union import is_foreign_allowed
from vae_models.strict import Strict

Residency = Literal["auto", "device", "host", "stream"]


def _facts_of(given: dict[str, Any]) -> DataSpec:
    return SOURCES.get(given["name"]).facts


class DataConfig(Strict):
    """Which data, and how bytes become x.

    name is that of a source (`vae_models.data.sources`), whose facts are filled in; or any name, of a set of one's own,
    with its digest and its facts, which are filled in where names are known (`vae_models.data.named`). Facts that are
    not the source's are refused.
    binarize: "none" keeps k/255 (digits: k/16 is stored as a byte); "threshold" is x >= 0.5; "dynamic" draws
    x ~ Bernoulli(k/255) anew at every step. noise: artificial noise, part of the data. trim, buckets: of data with
    lengths of their own; the global batch is cut to its longest, whatever the number of workers.
    """

    name: str = Field(
        min_length=1,
        max_length=bounds.TEXT,
        description="a published set, one of an installed package, or your own: vaesvc data list",
        json_schema_extra=lambda schema: schema.update(examples=list(SOURCES.kinds())),
    )
    digest: Digest | None = Field(default=None, description="of a set of your own, by which it is found")
    facts: DataSpec = Field(
        default_factory=_facts_of, description="shape, axes, support, sizes and labels, as the set's source has them"
    )
    binarize: Literal["none", "threshold", "dynamic"] = "none"
    noise: NoiseConfig = NoNoiseConfig()
    residency: Residency = Field(
        default="auto",
        description="where the data are kept while a run trains; the result is the same, to the bit. device: whole on "
        "the device; host: whole in memory, batches are copied ahead of the step; stream: on the disk, or by a "
        "rule, batches are read or made ahead; auto: the first of these that has room",
    )
    trim: bool = Field(
        default=True,
        description="a batch of data with lengths of their own is cut to its longest, where the model takes that "
        "(text): less to compute, and the same sums up to rounding",
    )
    buckets: bool = Field(
        default=False,
        description="a batch is of data of like lengths: sorted within windows of 50 batches, the batches in random "
        "order; less padding, and other batches than without",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_facts(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            return given
        given = _one_digest(given)
        name, source = given["name"], SOURCES.find(given["name"])
        if is_stored(info):  # taken before, perhaps where a package brought a source that is not here
            return given if source is None else {"facts": source.facts, **given}
        if source is None and given.get("facts") is not None and is_foreign_allowed():
            return given  # a source of a job's own code, which this process has not got
        if source is None and given.get("digest") is None:
            given = {**given, **_named(cls, name)}
        if source is not None and given.get("digest") is not None:
            raise _wrong(cls, "digest", given["digest"], f"{name} is a set that anybody has: give yours another name")
        if source is None and given.get("facts") is None:
            raise _wrong(cls, "facts", None, f"the set {name} is not known here: its digest needs its facts beside it")
        return given if given.get("facts") is not None or source is None else {**given, "facts": source.facts}

    @model_validator(mode="after")
    def _facts_are_the_sources(self, info: ValidationInfo) -> DataConfig:
        if self.facts.digest is not None:
            raise ValueError(f"digest {self.digest} is of another set than its facts, which are of {self.facts.digest}")
        source = SOURCES.find(self.name)
        if source is None or source.facts == self.facts or is_stored(info):
            return self
        ours, theirs = self.facts.model_dump(), source.facts.model_dump()
        wrong = [f"{key} {_short(ours[key])}, not {_short(theirs[key])}" for key in ours if ours[key] != theirs[key]]
        raise ValueError(
            f"facts contradict those of {self.name}: {'; '.join(wrong)}. Leave them out: they are filled in"
        )

    @property
    def support(self) -> Support:
        """Return the support of x after binarizing, which makes bits, and noise, which declares its own."""
        if self.noise.support is not None:
            return self.noise.support
        return "bits" if self.binarize != "none" else self.facts.support

    @property
    def reals(self) -> bool:
        """Return whether x is real-valued and unbounded: neither bytes nor bits."""
        return self.support == "reals"

    @property
    def bits(self) -> bool:
        """Return whether x is 0 or 1."""
        return self.support == "bits"


def _named(model: type[Strict], name: str) -> dict[str, Any]:
    """Return digest and facts of a user's own set, as the reader of the specification looks it up (`named.find`)."""
    try:
        facts = named.find(name)
    except ValueError as error:
        raise _wrong(model, "name", name, str(error)) from None
    if facts is None:
        raise _wrong(model, "name", name, unknown(name))
    return _one_digest({"facts": facts.model_dump(mode="json")})


def unknown(name: str) -> str:
    """Return the message about a name that no data set has."""
    return f"there is no data set {name!r}{SOURCES.hint(name)}. Add your own: vaesvc data add {shown(name)} PATH"


def shown(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9._-]{1,60}", name) else "NAME"


def renamed(before: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `before` without what `change` invalidates: another name brings its own digest and facts."""
    if "name" not in change or change["name"] == before.get("name"):
        return dict(before)
    return {key: value for key, value in before.items() if key not in ("digest", "facts")}


def _one_digest(given: dict[str, Any]) -> dict[str, Any]:
    """Return `given` with the digest moved from the facts to the field beside them."""
    facts = given.get("facts")
    plain = facts.model_dump(exclude_unset=True) if isinstance(facts, DataSpec) else facts
    if not isinstance(plain, Mapping) or plain.get("digest") is None:
        return given
    own = given.get("digest") or plain["digest"]
    if own != plain["digest"]:
        return given  # which is refused
    return {**given, "digest": own, "facts": {key: value for key, value in plain.items() if key != "digest"}}


def _wrong(model: type[Strict], field: str, given: Any, why: str) -> ValidationError:
    kind = PydanticCustomError("value_error", "{why}", {"why": why})
    return ValidationError.from_exception_data(model.__name__, [{"type": kind, "loc": (field,), "input": given}])


def _short(value: Any) -> str:
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
