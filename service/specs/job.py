"""What every kind of job says of itself. A spec names everything that the result depends on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, field_validator, model_validator

from service.code.reference import CodeRef, absent
from service.errors import UsageError
from service.queue.jobs import Resources
from vae_models import bounds
from vae_models.open_union import foreign_allowed
from vae_models.strict import Strict

LARGEST = 1 << 16  # bytes of a resolved spec; the largest published search has 2 kB


MOST_NEXT = 8  # jobs, or lists of jobs, that follow one


class RetryPolicy(Strict):
    max_attempts: int = Field(default=3, ge=1, le=100, description="attempts that may fail before the job does")
    backoff_seconds: float = Field(
        default=5.0, ge=0, le=86_400, description="before the 2nd attempt; doubles, at most 300 s"
    )


class JobSpec(Strict):
    """The fields of every kind of job; `resources` is the gang that starts together or not at all."""

    kind: str = Field(max_length=32)
    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
    recipe: str | None = Field(
        default=None, max_length=bounds.TEXT
    )  # where the rest came from; kept for people, never read again
    register_as: str = Field(
        min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="registered model"
    )
    priority: int = Field(default=0, ge=-1000, le=1000)
    resources: Resources = Resources()
    retry: RetryPolicy = RetryPolicy()
    code: CodeRef | None = Field(
        default=None, description="the user's own package that every process of the job imports; set by --code"
    )

    then: tuple[Annotated[dict[str, Any], Field(max_length=100)], ...] = Field(
        default=(), max_length=MOST_NEXT,
        description="what is submitted when the job has succeeded: kinds, such as evaluate, or mappings with a `kind`",
    )  # fmt: skip

    @field_validator("then", mode="before")
    @classmethod
    def _kinds_alone(cls, given: Any) -> Any:
        """Take `evaluate` and `[evaluate]` for `[{kind: evaluate}]`."""
        every = [given] if isinstance(given, str | Mapping) else given
        if not isinstance(every, list | tuple):
            return every
        return tuple({"kind": each} if isinstance(each, str) else each for each in every)

    @model_validator(mode="wrap")
    @classmethod
    def _own_code(cls, given: Any, read: ModelWrapValidatorHandler[Self]) -> Self:
        """Read a spec; parts that only the job's own package has stay data in a process without that package.

        Such is the service's own process: no user's code is imported there. What is known is checked all the same.
        """
        with foreign_allowed(isinstance(given, Mapping) and absent(given.get("code"))):
            return read(given)


class OpenSpec(JobSpec):
    """A job of a kind that is not installed here and comes with the job's own code: only that code reads the rest."""

    model_config = ConfigDict(extra="allow")


def refuse_large(spec: JobSpec) -> None:
    """Raise UsageError for a large spec: jobs are kept for ever and listed by the thousand, each with its whole
    spec."""
    if (size := len(spec.model_dump_json())) > LARGEST:
        raise UsageError(f"the spec has {size:,} bytes with every default filled in; at most {LARGEST:,} are taken")


def with_name(whole: Mapping[str, Any], suggested: str) -> dict[str, Any]:
    """Return the spec with `suggested` for a name unless it has one, and a registered model's name made of it."""
    name = suggested if whole.get("name") is None else whole["name"]
    # always a valid one, so that a wrong name is one mistake and not two
    model_name = re.sub(r"[^A-Za-z0-9._-]", "-", str(name)).lstrip("._-")[:100] or "unnamed"
    register_as = whole.get("register_as")
    return {**whole, "name": name, "register_as": model_name if register_as is None else register_as}
