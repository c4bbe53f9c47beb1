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

LABEL_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"
LABEL_VALUE = r"^[ -~]*$"  # printable ASCII
LABEL = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}=[ -~]{0,200}$"  # as it is written: name=value
LARGEST = 1 << 16  # bytes of a resolved spec; the largest published search has 2 kB


MOST_NEXT = 8  # jobs, or lists of jobs, that follow one
MOST_LABELS = 32
LARGEST_ARRAY = 10_000  # jobs
MOST_SECONDS = 1e9  # 31 years
HANG_FACTOR = 20.0
HANG_SECONDS = 300.0
MOST_BEFORE = 32  # jobs that one waits for
AFTER = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}(:(succeeded|ended|failed))?$"

LabelName = Annotated[str, Field(max_length=63, pattern=LABEL_NAME)]
LabelValue = Annotated[str, Field(max_length=200, pattern=LABEL_VALUE)]


class RetryPolicy(Strict):
    max_attempts: int = Field(default=3, ge=1, le=100, description="attempts that may fail before the job does")
    backoff_seconds: float = Field(
        default=5.0, ge=0, le=86_400, description="before the 2nd attempt; doubles, at most 300 s"
    )


class ArrayPlace(Strict):
    """A job's place in an array: jobs that are submitted, shown, cancelled and tried again as one."""

    id: str = Field(max_length=32, pattern=r"^a-[a-z0-9]{1,30}$")
    index: int = Field(ge=0, lt=LARGEST_ARRAY)
    size: int = Field(ge=1, le=LARGEST_ARRAY, description="jobs of the array")
    at_most: int | None = Field(default=None, ge=1, le=LARGEST_ARRAY, description="of them at once; none: no limit")


class TimeLimits(Strict):
    """How long a job and its attempts may take. An attempt that is ended for it checkpoints first, unless it hangs."""

    max_seconds: float | None = Field(default=None, gt=0, le=MOST_SECONDS, description="of all attempts together")
    attempt_seconds: float | None = Field(
        default=None, gt=0, le=MOST_SECONDS, description="of one attempt; it fails, and another goes on from there"
    )
    deadline: float | None = Field(default=None, ge=0, le=1e12, description="s since 1970: then it is cancelled")
    hang_factor: float = Field(
        default=HANG_FACTOR, ge=1, le=1e6,
        description="an attempt hangs that was away for so many times its longest step, and",
    )  # fmt: skip
    hang_seconds: float | None = Field(
        default=HANG_SECONDS, ge=5, le=MOST_SECONDS, description="at least so many seconds; none: it is not looked for"
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
    preemptible: bool = Field(
        default=True, description="it may make room for a job of a higher priority; false is an operator's"
    )
    resources: Resources = Resources()
    retry: RetryPolicy = RetryPolicy()
    code: CodeRef | None = Field(
        default=None, description="the user's own package that every process of the job imports; set by --code"
    )

    after: tuple[Annotated[str, Field(max_length=50, pattern=AFTER)], ...] = Field(
        default=(), max_length=MOST_BEFORE,
        description="start after these jobs: JOB (has succeeded), JOB:failed (or was cancelled), JOB:ended (however)",
    )  # fmt: skip
    limits: TimeLimits = TimeLimits()
    array: ArrayPlace | None = Field(default=None, description="set by --array")
    labels: dict[LabelName, LabelValue] = Field(
        default_factory=dict, max_length=MOST_LABELS, description="what the job is found by: --label name=value"
    )
    notes: str = Field(default="", max_length=2000, description="for people, shown with the job: --note")

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

    @field_validator("after", mode="after")
    @classmethod
    def _each_once(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        """Write down what is wanted of each, and refuse a job that is named twice."""
        whole = tuple(each if ":" in each else f"{each}:succeeded" for each in given)
        names = [each.partition(":")[0] for each in whole]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is named more than once: `ended` covers both ways")
        return whole

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


def refuse_large(spec: JobSpec, at_most: int | None = None) -> None:
    """Raise UsageError for a large spec: jobs are kept for ever and listed by the thousand, each with its whole
    spec. at_most: a bound of its bytes, where one is known."""
    if at_most is not None and at_most <= LARGEST:
        return
    if (size := len(spec.model_dump_json())) > LARGEST:
        raise UsageError(f"the spec has {size:,} bytes with every default filled in; at most {LARGEST:,} are taken")


def with_name(whole: Mapping[str, Any], suggested: str) -> dict[str, Any]:
    """Return the spec with `suggested` for a name unless it has one, and a registered model's name made of it."""
    name = suggested if whole.get("name") is None else whole["name"]
    # always a valid one, so that a wrong name is one mistake and not two
    model_name = re.sub(r"[^A-Za-z0-9._-]", "-", str(name)).lstrip("._-")[:100] or "unnamed"
    register_as = whole.get("register_as")
    return {**whole, "name": name, "register_as": model_name if register_as is None else register_as}
