"""What a registered model consists of, and what the service signs of it. Pure; the service and readers check with it.

A version's files lie in models/NAME/JOB of the bucket: MLmodel, model.safetensors, config.json, examples of an input
and, last, manifest.json with the sums of the others. The service signs a statement about the manifest: so the statement
covers every byte. `signature.json` beside them is a copy of the envelope (`service.signing`); SQL has the one that
counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from service import signing
from service.code.reference import CodeRef
from service.directories import MANIFEST, read_manifest
from service.errors import UntrustedError, UsageError
from service.pyfunc import CONFIG, MODEL
from service.queue.jobs import Record

MLMODEL, SIGNATURE = "MLmodel", "signature.json"
REQUIRED = frozenset({MLMODEL, MODEL, CONFIG})
EXAMPLE, SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"  # MLflow's, of JSON numbers
OPTIONAL = frozenset({EXAMPLE, SERVING_EXAMPLE})
LOADER = "service.pyfunc"
FLAVOR = frozenset({"loader_module", "python_version"})  # no `code`, `data`, `env`, `model_config`
MLMODEL_KEYS = frozenset({
    "flavors", "metadata", "mlflow_version", "model_size_bytes", "model_uuid", "model_id", "run_id", "utc_time_created",
    "signature", "is_signature_from_type_hint", "type_hint_from_example", "saved_input_example_info", "prompts",
})  # fmt: skip
MLMODEL_BYTES = 1 << 20
PAYLOAD_TYPE = "application/vnd.vaesvc.model.v1+json"
BEST = "best"

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_REFERENCE = re.compile(rf"(?:models:/)?({NAME})(?:@([A-Za-z0-9][A-Za-z0-9._-]*)|/([0-9]+))?", re.ASCII)


class Statement(Record):
    """What the service states of a version: these files, of this job, came to this value.

    No statement of a model without own code names `code`, as none did before there was any.

    source: below the service's part of the bucket. value: of the metric, none where it is no finite number. measure,
    data: values are compared only where they agree in these, the metric and the mode.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: Literal[1] = 1
    name: str = Field(pattern=rf"^{NAME}$")
    version: int = Field(ge=1)
    job_id: str
    source: str
    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    metric: str
    value: float | None
    mode: Literal["max", "min"]
    measure: str
    data: str
    step: int
    checkpoint: str  # its address; it may be gone
    code: CodeRef | None = None  # the user's own package that it takes to load it


class Reference(Record):
    """NAME, NAME@best, NAME@3 or NAME/3; as MLflow writes it, models:/NAME@best, too."""

    name: str
    version: int | None = None  # none: the service's best

    def __str__(self) -> str:
        return f"{self.name}@{BEST}" if self.version is None else f"{self.name}/{self.version}"


def reference(text: str) -> Reference:
    """Parse a model's reference. Raises UsageError for what names no model."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} names no model: it looks like NAME, NAME@{BEST} or NAME/3; all: vaesvc models")
    name, alias, version = match.groups()
    if alias not in (None, BEST) and not alias.isdigit():
        raise UsageError(f"{text!r}: there is no alias {alias!r}; a model has @{BEST} and its versions, NAME/3")
    number = version or (alias if alias != BEST else None)
    return Reference(name=name, version=None if number is None else int(number))


def source(name: str, job_id: str) -> tuple[str, str, str]:
    """Return where a version's files lie, as parts of an address."""
    return ("models", name, job_id)


def read_statement(envelope: str, keys: Collection[str], what: str) -> Statement:
    """Return the statement about a version that one of `keys` signed. Raises UntrustedError, beginning with `what`."""
    said = signing.verify(envelope, keys, PAYLOAD_TYPE, what)
    try:
        statement = Statement.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UntrustedError(f"{what} has a statement that is not understood here ({place}: {first['msg']})") from error
    if statement.source != "/".join(source(statement.name, statement.job_id)):
        raise UntrustedError(f"{what} has its files at {statement.source!r}, which is not where models lie")
    return statement


def check_manifest(data: bytes, statement: Statement, what: str) -> dict[str, tuple[str, int]]:
    """Return the files of a signed manifest: name -> (SHA-256, bytes). Raises UntrustedError."""
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != statement.manifest_sha256:
        raise UntrustedError(
            f"{what}: its {MANIFEST} is not the one that was signed (SHA-256 {sha256}, signed "
            f"{statement.manifest_sha256}): somebody wrote to the bucket. The job's checkpoint is not touched by that: "
            f"`vaesvc show {statement.job_id}`"
        )
    files = read_manifest(data, f"{what}'s {MANIFEST}")
    check_names(files, what)
    return files


def check_names(names: Collection[str], what: str) -> None:
    """Raise UntrustedError unless these are a model's files: no code, no pickle, nothing unknown."""
    unknown = sorted(set(names) - REQUIRED - OPTIONAL)
    if unknown:
        raise UntrustedError(
            f"{what} has the file {unknown[0]!r}, which no model of this service has: it is not loaded"
        )
    if missing := sorted(REQUIRED - set(names)):
        raise UntrustedError(f"{what} lacks {missing[0]}")


def check_mlmodel(data: bytes, what: str) -> dict[str, Any]:
    """Return MLflow's description, if it names our loader and nothing else that runs. Raises UntrustedError."""
    import yaml

    try:
        if len(data) > MLMODEL_BYTES:
            raise ValueError("too long")
        described = yaml.safe_load(data)
        flavors = described["flavors"]
        flavor = flavors["python_function"]
        loader, keys, more = flavor["loader_module"], set(flavor), sorted(set(described) - MLMODEL_KEYS)
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UntrustedError(f"{what}: its {MLMODEL} is not one of this service ({type(error).__name__})") from error
    if loader != LOADER:
        raise UntrustedError(f"{what}: its {MLMODEL} names the loader {str(loader)[:100]!r}; only {LOADER} is used")
    if len(flavors) > 1 or keys - FLAVOR or more:
        strange = sorted(set(flavors) - {"python_function"}) + sorted(keys - FLAVOR) + more
        raise UntrustedError(f"{what}: its {MLMODEL} names {strange[0]!r}, which no model of this service has")
    assert isinstance(described, dict)
    return described


def manifest_json(fields: dict[str, Any]) -> bytes:
    """Return a manifest's bytes: the same fields give the same."""
    return json.dumps(fields, indent=1, sort_keys=True).encode()
