"""Where everything is. Order: environment (`VAESVC_...`), TOML file, running embedded stack, defaults.

The file is the one named by `VAESVC_CONFIG` (empty: none), else the first there is of `~/.config/vaesvc/config.toml`
and `./vaesvc.toml`. Its keys are the fields below, S3's in a table `[s3]`, a login provider's in `[oidc]`. The embedded
stack (`vaesvc up`) leaves its addresses in `<home>/stack.json`.

Addresses and their secrets come in groups (S3, Ray, API). Once an address is given by hand, the embedded stack's
secrets of that group are not used with it: they belong to another server.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from service import logins
from service.errors import UsageError
from service.oidc.settings import OidcSettings
from service.setting_types import AbsolutePath, Address, HostPort, absolute, read_secret
from service.wire import StorageSettings

STACK_FILE = "stack.json"
DEFAULT = "default"
STACK = "embedded stack"
_GCS_PORT = 6379  # of `ray start`
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]", re.ASCII)
_GROUPS = (  # (fields that say "another server", fields of the stack that are then left out)
    ({"s3.bucket", "s3.endpoint_url", "s3.access_key", "s3.secret_key"}, "s3."),
    ({"ray_address"}, "ray_"),
    ({"api_url"}, "token_file"),
    ({"token"}, "token_file"),
    ({"mlflow_uri"}, "mlflow_login"),
)


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback)


def _bucket(name: str) -> str:
    """Check the bucket's name: S3's names, and the older ones with capitals and _ that some servers still have."""
    if _BUCKET.fullmatch(name):
        return name
    bucket, _, prefix = name.removeprefix("s3://").strip("/").partition("/")
    if _BUCKET.fullmatch(bucket):
        below = f' and prefix = "{prefix}" ({variable("s3.prefix")})' if prefix else ""
        raise ValueError(f'this is an address; write the bucket\'s name alone: bucket = "{bucket}"{below}')
    raise ValueError(
        "this cannot name a bucket: 3 to 63 letters (lower-case on AWS), digits, - and ., the first and the last a "
        'letter or a digit, such as bucket = "my-models"'
    )


def _endpoint(url: str | None) -> str | None:
    if url is None or (url.startswith(("http://", "https://")) and urlsplit(url).hostname):
        return url
    raise ValueError(
        "an address begins with http:// or https://, such as https://s3.example:9000; leave it out for AWS"
    )


class S3Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: Annotated[str, AfterValidator(_bucket)] = "vaesvc"
    prefix: str = ""
    endpoint_url: Annotated[str | None, AfterValidator(_endpoint)] = (
        None  # else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL; none: AWS itself
    )
    region: str = "us-east-1"  # else AWS_REGION, AWS_DEFAULT_REGION
    access_key: str | None = None  # else AWS_ACCESS_KEY_ID; none: boto3's own chain, on every machine for itself
    secret_key: SecretStr | None = None


TABLES: Mapping[str, type[BaseModel]] = {"s3": S3Settings, "oidc": OidcSettings}


class Settings(BaseModel):
    """`Settings(home=...)` is defaults only; `load()` reads the environment, the file and the embedded stack."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    home: AbsolutePath = Field(default_factory=lambda: Path.home() / ".vaesvc")  # state of the embedded stack
    database_url: str = Field(default="", repr=False)  # sqlite:////path, postgresql+psycopg://...; left out: in `home`
    api_url: Address | None = None
    token: SecretStr | None = None  # a user's token; or the file it is in
    token_file: AbsolutePath | None = None
    secret_file: AbsolutePath = Path()  # 32 random bytes, shared by API and dispatcher; left out: <home>/secret
    signing_key_file: AbsolutePath = Path()  # signs registered models; API and dispatcher; left out: <home>/signing-key
    verify_key: str = ""  # a reader's: only models that one of these public keys signed; left out: the service's own
    cluster_api_url: Address | None = None  # the API as the Ray cluster sees it; left out: api_url
    ray_address: Address | None = None  # http://HOST:8265, the Jobs API
    ray_token_file: AbsolutePath | None = None
    ray_gcs_address: HostPort | None = None  # HOST:6379, which tells of drains; left out: port 6379 of ray_address
    mlflow_uri: Address | None = None
    # "vaesvc": MLflow is behind this service's gate; "own": it has none, or a login of its own (MLFLOW_TRACKING_...)
    mlflow_login: Literal["vaesvc", "own"] = "own"
    s3: S3Settings = Field(default_factory=S3Settings)
    oidc: OidcSettings = Field(default_factory=OidcSettings)
    data_dir: AbsolutePath | None = None  # data sets that are already on disk
    cache_dir: AbsolutePath = Field(default_factory=lambda: _xdg("XDG_CACHE_HOME", ".cache") / "vaesvc")
    cache_bytes: int | None = Field(default=None, ge=1)  # of data sets of users' own that a machine has fetched
    warm_workers: int = Field(default=4, ge=0)  # that wait for a job on a machine, their imports done: at most
    user_code: Literal["off", "admins", "users"] = "off"  # who may bring code of their own: it runs on the cluster
    code_bytes: int = Field(default=20 << 20, ge=1, le=1 << 30)  # of a package of own code, as a wheel
    code_grace_seconds: float = Field(
        default=30 * 86_400.0, ge=0
    )  # a package that no job and no model needs is kept so long
    read: Literal["all", "own"] = "all"  # whose jobs and models a user sees; administrators see all
    data_set_bytes: int = Field(default=64 * 2**30, ge=1)  # of one set of a user's own, as it is stored
    data_grace_seconds: float = Field(default=86_400.0, ge=0)  # a set that nothing needs is kept this long
    data_job_grace_seconds: float = Field(default=30 * 86_400.0, ge=0)  # a job that is over needs its data so long
    notify_networks: str = ""  # networks that webhooks may call though they are not public: 10.0.0.0/8, ...
    notify_wait_seconds: float = Field(default=3600.0, ge=1)  # who has waited this long is told so
    mail_url: str | None = None  # smtp+starttls://USER@HOST:587, smtps://..., smtp://HOST; left out: no mail is sent
    mail_password_file: AbsolutePath | None = None
    mail_from: str | None = None
    mail_domains: str = ""  # mail goes to these alone; left out: to any
    # what jobs that are over leave behind is kept so long after their end, and so large in all; none: for ever
    gc_log_seconds: float | None = Field(default=None, ge=0)
    gc_log_bytes: int | None = Field(default=None, ge=0)
    gc_checkpoint_seconds: float | None = Field(default=None, ge=0)
    gc_checkpoint_bytes: int | None = Field(default=None, ge=0)
    gc_job_seconds: float | None = Field(default=None, ge=0)
    lease_seconds: float = Field(default=20.0, ge=1)
    poll_seconds: float = Field(default=1.0, gt=0)  # the dispatcher's tick
    cancel_grace_seconds: float = Field(default=8.0, ge=0)  # a cancelled attempt may checkpoint this long
    preemption: bool = False  # a job takes the room that it needs from attempts of a lower priority
    grow_seconds: float = Field(default=300.0, ge=1)  # idle room is given to elastic gangs after so long
    preempt_grace_seconds: float = Field(default=60.0, ge=0, le=86_400)  # in which these may checkpoint

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _derived(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Fill in the defaults that follow from `home`."""
        home = absolute(Path(given.get("home") or Path.home() / ".vaesvc"))
        follows = {
            "database_url": f"sqlite:///{home}/vaesvc.db",
            "secret_file": home / "secret",
            "signing_key_file": home / "signing-key",
        }
        return {**follows, **given}

    def origin(self, field: str) -> str:
        """Return the source of `field` ("mlflow_uri", "s3.bucket"): a variable, a file, the stack, "default"."""
        return self._origins.get(field, DEFAULT)

    def explicit(self, field: str) -> bool:
        """Return whether the user gave it (environment or file): not the stack, a default or the AWS tools'
        variable."""
        origin = self.origin(field)
        return origin not in (DEFAULT, STACK) and not origin.startswith("AWS_")

    def value(self, field: str) -> Any:
        """Return a setting by name: "mlflow_uri", "s3.bucket"."""
        table, _, name = field.rpartition(".")
        return getattr(getattr(self, table) if table else self, name)

    def storage(self) -> StorageSettings:
        """Return the bucket, with its secrets, for `service.artifacts`."""
        secret = self.s3.secret_key
        return StorageSettings(
            bucket=self.s3.bucket,
            prefix=self.s3.prefix,
            endpoint_url=self.s3.endpoint_url,
            region=self.s3.region,
            access_key=self.s3.access_key,
            secret_key=secret.get_secret_value() if secret else None,
        )

    def user_token(self) -> str | None:
        """Return the bearer token for the API, the one that `vaesvc login` got there if no other is set; None where
        there is none. Raises AuthError for an unreadable file."""
        if self.token:
            return self.token.get_secret_value()
        if self.token_file:
            return read_secret(self.token_file, self.origin("token_file"))
        return logins.token(self.api_url) if self.api_url else None

    def mail_password(self) -> str | None:
        """Return the mail server's password; None where none is set. Raises AuthError for an unreadable file."""
        file = self.mail_password_file
        return read_secret(file, self.origin("mail_password_file")) if file else None

    def gcs_address(self) -> str:
        """Return where Ray's GCS listens, HOST:PORT; left out, on Ray's usual port of the machine of its Jobs API."""
        return self.ray_gcs_address or f"{urlsplit(self.ray_address or '').hostname or 'localhost'}:{_GCS_PORT}"

    def ray_token(self) -> str | None:
        """Return Ray's shared token; None where none is set. Raises AuthError for an unreadable file."""
        return read_secret(self.ray_token_file, self.origin("ray_token_file")) if self.ray_token_file else None


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings from the environment, the TOML file, the running stack and the defaults, in this order.

    Raises UsageError naming the variable or the file's key, the value and what is allowed.
    """
    env = os.environ if environ is None else environ
    layers = [_from_environment(env), _from_file(env)]
    home = next((layer["home"][0] for layer in layers if "home" in layer), Path.home() / ".vaesvc")
    layers += [_from_stack(absolute(Path(home)), set().union(*layers)), _from_aws(env)]
    merged: dict[str, tuple[Any, str]] = {}
    for layer in reversed(layers):
        merged.update(layer)
    return _build(merged)


def _build(merged: Mapping[str, tuple[Any, str]]) -> Settings:
    nested: dict[str, Any] = {}
    for name, (value, _) in merged.items():
        table, _, key = name.rpartition(".")
        (nested.setdefault(table, {}) if table else nested)[key] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        value, origin = merged.get(name, ("", DEFAULT))
        shown = "" if "secret" in name or "token" in name else f" = {value!r}"
        raise UsageError(
            f"setting {name}{shown} (from {origin}): {first['msg'].removeprefix('Value error, ')}"
        ) from None
    settings._origins.update({name: origin for name, (_, origin) in merged.items()})
    return settings


def field_names() -> list[str]:
    """Return every setting's name, those of a table as "s3.<name>"."""
    plain = [name for name in Settings.model_fields if name not in TABLES]
    return plain + [f"{table}.{name}" for table, model in TABLES.items() for name in model.model_fields]


def variable(field: str) -> str:
    """Return the environment variable of a setting: s3.bucket -> VAESVC_S3_BUCKET."""
    return "VAESVC_" + field.replace(".", "_").upper()


def _from_environment(env: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    return {name: (env[variable(name)], variable(name)) for name in field_names() if env.get(variable(name))}


def config_file(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the TOML file that `load` reads, if there is one."""
    env = os.environ if environ is None else environ
    if "VAESVC_CONFIG" in env:
        return absolute(Path(env["VAESVC_CONFIG"])) if env["VAESVC_CONFIG"] else None
    config_home = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    candidates = (config_home / "vaesvc" / "config.toml", Path("vaesvc.toml").absolute())
    return next((path for path in candidates if path.is_file()), None)


def _from_file(env: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    path = config_file(env)
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read the settings file {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    values = dict(_flat(tables, path))
    for name, value in values.items():
        if _is_path(name) and isinstance(value, str):  # relative to the file, not to wherever the command runs
            values[name] = str(path.parent / Path(value).expanduser())
    return {name: (value, str(path)) for name, value in values.items()}


def _flat(tables: Mapping[str, Any], path: Path) -> Iterator[tuple[str, Any]]:
    allowed = field_names()
    for key, value in tables.items():
        inside = key in TABLES and isinstance(value, dict)
        entries = {f"{key}.{k}": v for k, v in value.items()} if inside else {key: value}
        for name, inner in entries.items():
            if name not in allowed:
                near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.0)
                raise UsageError(
                    f"{path}: unknown setting {name!r}; nearest is {near[0]!r}. Settings: {', '.join(allowed)}"
                )
            yield name, inner


def _is_path(name: str) -> bool:
    return name == "home" or name.endswith(("_file", "_dir"))


def _from_stack(home: Path, given: set[str]) -> dict[str, tuple[Any, str]]:
    """Return what the running embedded stack wrote down, less the groups that the user points elsewhere."""
    try:
        state = json.loads((home / STACK_FILE).read_text())
        if not isinstance(state, dict) or not isinstance(state.get("settings", {}), dict):
            raise ValueError("it is not what `vaesvc up` writes")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        mend = "delete it and run `vaesvc up`, which writes it anew and loses nothing"
        raise UsageError(f"cannot read the embedded stack's state {home / STACK_FILE}: {error}; {mend}") from error
    if not state.get("running"):
        return {}
    values = {name: (value, STACK) for name, value in state.get("settings", {}).items() if name in field_names()}
    for elsewhere, dropped in _GROUPS:
        if given & elsewhere:
            values = {name: value for name, value in values.items() if not name.startswith(dropped)}
    return values


def _from_aws(env: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Return the AWS tools' own variables, below everything of ours. Keys only as a pair, and not with a session token:
    such keys are short-lived and stay with boto3's own chain."""
    names: dict[str, tuple[str, ...]] = {
        "s3.endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    }
    if env.get("AWS_ACCESS_KEY_ID") and env.get("AWS_SECRET_ACCESS_KEY") and not env.get("AWS_SESSION_TOKEN"):
        names |= {"s3.access_key": ("AWS_ACCESS_KEY_ID",), "s3.secret_key": ("AWS_SECRET_ACCESS_KEY",)}
    chosen = {name: next((v for v in variables if env.get(v)), None) for name, variables in names.items()}
    return {name: (env[used], used) for name, used in chosen.items() if used}


def with_stack(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Return `settings` with what an embedded stack offers, wherever the user did not set it otherwise."""
    given = settings.model_fields_set - set(TABLES)
    given |= {f"{table}.{name}" for table in TABLES for name in getattr(settings, table).model_fields_set}
    known = {name: (settings.value(name), settings.origin(name)) for name in given}
    offered = {name: (value, STACK) for name, value in values.items() if not settings.explicit(name)}
    return _build(known | offered)
