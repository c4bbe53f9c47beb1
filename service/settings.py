"""Where everything is. Order: environment (`VAESVC_...`), then a TOML file, then the running embedded stack, then defaults."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class S3Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="VAESVC_S3_", extra="forbid")

    bucket: str = "vaesvc"
    prefix: str = ""
    endpoint_url: str | None = None  # else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL
    region: str = "us-east-1"
    access_key: str | None = None  # else boto3's own chain
    secret_key: SecretStr | None = None


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="VAESVC_", extra="forbid")

    home: Path = Field(default_factory=lambda: Path.home() / ".vaesvc")  # state of the embedded stack
    database_url: str | None = None  # sqlite:////path or postgresql+psycopg://...
    api_url: str | None = None
    token: SecretStr | None = None
    token_file: Path | None = None
    ray_address: str | None = None  # http://HOST:8265, the Jobs API
    ray_token_file: Path | None = None
    mlflow_uri: str | None = None
    s3: S3Settings = Field(default_factory=S3Settings)
    lease_seconds: float = 20.0
    poll_seconds: float = 1.0  # the dispatcher's tick
    cancel_grace_seconds: float = 8.0  # a cancelled attempt may checkpoint this long before it is ended
