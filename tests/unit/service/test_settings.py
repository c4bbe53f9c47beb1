"""Where settings come from, and what is said when one is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service import settings
from service.errors import AuthError, UsageError

STACK = {
    "mlflow_uri": "http://127.0.0.1:5001",
    "ray_address": "http://127.0.0.1:8265",
    "ray_gcs_address": "127.0.0.1:6380",
    "ray_token_file": "/stack/ray-token",
    "api_url": "http://127.0.0.1:8470",
    "token_file": "/stack/token",
    "s3.bucket": "vaesvc",
    "s3.endpoint_url": "http://127.0.0.1:9000",
    "s3.access_key": "vaesvc:admin",
    "s3.secret_key": "stack-secret",
}


def running_stack(home: Path, running: bool = True) -> None:
    home.mkdir(exist_ok=True)
    (home / "stack.json").write_text(json.dumps({"running": running, "ports": {}, "settings": STACK}))


def environment(tmp_path: Path, toml: str = "", **more: str) -> dict[str, str]:
    file = tmp_path / "vaesvc.toml"
    file.write_text(toml)
    return {"VAESVC_HOME": str(tmp_path / "home"), "VAESVC_CONFIG": str(file), **more}


def test_environment_before_file_before_stack_before_default(tmp_path: Path) -> None:
    running_stack(tmp_path / "home")
    toml = 'mlflow_uri = "http://file:1"\nlease_seconds = 30\npoll_seconds = 2'
    found = settings.load(environment(tmp_path, toml, VAESVC_LEASE_SECONDS="40"))
    assert found.lease_seconds == 40
    assert found.origin("lease_seconds") == "VAESVC_LEASE_SECONDS"
    assert (found.mlflow_uri, found.poll_seconds) == ("http://file:1", 2)
    assert found.origin("mlflow_uri") == str(tmp_path / "vaesvc.toml")
    assert found.api_url == STACK["api_url"]
    assert found.origin("api_url") == settings.STACK
    assert found.cancel_grace_seconds == 8
    assert found.origin("cancel_grace_seconds") == settings.DEFAULT
    assert [found.explicit(name) for name in ("lease_seconds", "mlflow_uri", "api_url", "poll_seconds")] == [
        True,
        True,
        False,
        True,
    ]


def test_every_setting_has_a_variable_and_a_key(tmp_path: Path) -> None:
    """One value of each kind, by both ways: none is out of reach."""
    special = {"read": "own", "mlflow_login": "vaesvc", "s3.bucket": "models", "s3.endpoint_url": "http://s3.example"}
    special["user_code"] = "admins"
    special |= {"oidc.issuer": "https://login.example", "oidc.scopes": "openid", "oidc.roles": "staff=user"}
    special |= {"oidc.groups": "cn=lab,dc=org=vision; other=text", "oidc.new_users": "viewer"}
    numbers = {"lease_seconds", "poll_seconds", "cancel_grace_seconds", "code_bytes", "code_grace_seconds"}
    numbers |= {"data_set_bytes", "data_grace_seconds", "data_job_grace_seconds", "cache_bytes", "warm_workers"}
    numbers |= {f"gc_{name}" for name in ("log_seconds", "log_bytes", "checkpoint_seconds", "checkpoint_bytes")}
    numbers |= {"gc_job_seconds", "notify_wait_seconds", "oidc.seconds"}
    special["oidc.seconds"] = "7200"
    numbers |= {"preempt_grace_seconds", "grow_seconds"}
    special |= {"preemption": "on", "ray_gcs_address": "ray.example:6379"}
    for name in settings.field_names():
        value = special.get(name, "7" if name in numbers else "/some/where")
        by_variable = settings.load({"VAESVC_CONFIG": "", settings.variable(name): value})
        assert by_variable.origin(name) == settings.variable(name)
        table, _, key = name.rpartition(".")
        header = f"[{table}]\n" if table else ""
        literal = value if name in numbers else f'"{value}"'
        by_file = settings.load(environment(tmp_path, f"{header}{key} = {literal}") | {"VAESVC_HOME": ""})
        assert by_file.origin(name) == str(tmp_path / "vaesvc.toml"), name
        assert by_file.value(name) == by_variable.value(name)


def test_a_stack_that_is_down_is_not_used(tmp_path: Path) -> None:
    running_stack(tmp_path / "home", running=False)
    assert settings.load(environment(tmp_path)).api_url is None


@pytest.mark.parametrize(
    ("given", "dropped", "kept"),
    [
        ({"VAESVC_S3_BUCKET": "mine"}, "s3.secret_key", "ray_token_file"),
        ({"VAESVC_S3_ENDPOINT_URL": "https://s3.example"}, "s3.access_key", "token_file"),
        ({"VAESVC_RAY_ADDRESS": "http://ray.example:8265"}, "ray_token_file", "token_file"),
        ({"VAESVC_API_URL": "https://vaesvc.example"}, "token_file", "s3.secret_key"),
        ({"VAESVC_TOKEN": "abc"}, "token_file", "api_url"),
    ],
)
def test_the_stacks_secrets_never_go_to_another_server(
    tmp_path: Path, given: dict[str, str], dropped: str, kept: str
) -> None:
    running_stack(tmp_path / "home")
    found = settings.load(environment(tmp_path, **given))
    assert found.value(dropped) is None
    assert found.value(kept) is not None


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({}, "127.0.0.1:6380"),
        ({"VAESVC_RAY_ADDRESS": "http://ray.example:8265"}, "ray.example:6379"),  # not the stack's
        ({"VAESVC_RAY_ADDRESS": "http://ray.example:8265", "VAESVC_RAY_GCS_ADDRESS": "gcs.example:1"}, "gcs.example:1"),
    ],
)
def test_rays_gcs_is_on_the_machine_of_its_jobs_api_unless_another_is_named(
    tmp_path: Path, given: dict[str, str], address: str
) -> None:
    running_stack(tmp_path / "home")
    assert settings.load(environment(tmp_path, **given)).gcs_address() == address


@pytest.mark.parametrize("address", ["http://ray.example:6379", "ray.example", ":6379", "ray.example:many", "a:1/b"])
def test_half_an_address_of_rays_gcs_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match=r"setting ray_gcs_address = .*[Pp]ort|HOST:PORT"):
        settings.load(environment(tmp_path, VAESVC_RAY_GCS_ADDRESS=address))


def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"vaesvc\.toml: unknown setting 'mlflow_url'; nearest is 'mlflow_uri'"):
        settings.load(environment(tmp_path, 'mlflow_url = "http://x"'))
    with pytest.raises(UsageError, match=r"'s3\.buckets'; nearest is 's3\.bucket'"):
        settings.load(environment(tmp_path, '[s3]\nbuckets = "x"'))


def test_a_wrong_value_names_where_it_is_from(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lease_seconds = 'soon' \(from VAESVC_LEASE_SECONDS\): .*number"):
        settings.load(environment(tmp_path, VAESVC_LEASE_SECONDS="soon"))
    with pytest.raises(UsageError, match=r"poll_seconds = -1 \(from .*vaesvc\.toml\): .*greater than 0"):
        settings.load(environment(tmp_path, "poll_seconds = -1"))
    with pytest.raises(UsageError, match="is not TOML"):
        settings.load(environment(tmp_path, "poll_seconds ="))
    with pytest.raises(UsageError, match="cannot read the settings file /not/there"):
        settings.load({"VAESVC_CONFIG": "/not/there"})


@pytest.mark.parametrize(
    ("bucket", "advice"),
    [
        ("s3://models", 'write the bucket\'s name alone: bucket = "models"$'),
        ("s3://models/", 'bucket = "models"$'),
        ("s3://models/team/a", r'bucket = "models" and prefix = "team/a" \(VAESVC_S3_PREFIX\)$'),
        ("models/team", 'bucket = "models" and prefix = "team"'),
        ("s3://x", "3 to 63 letters"),
        ("x", "3 to 63 letters"),
        ("https://s3.example/models", "3 to 63 letters"),
        ("-models", "the first and the last a letter or a digit"),
        ("models!", 'such as bucket = "my-models"$'),
        ("modèles", "3 to 63 letters"),
        ("a" * 64, "3 to 63 letters"),
    ],
)
def test_fault_13a_a_bucket_that_cannot_be_is_refused_with_what_to_write(
    tmp_path: Path, bucket: str, advice: str
) -> None:
    """Amazon's library said "Parameter validation failed:", when the first request was made."""
    for toml, variables in ((f'[s3]\nbucket = "{bucket}"', {}), ("", {"VAESVC_S3_BUCKET": bucket})):
        with pytest.raises(UsageError, match=advice) as caught:
            settings.load(environment(tmp_path, toml, **variables))
        assert f"s3.bucket = {bucket!r} (from " in str(caught.value)
        assert "\n" not in str(caught.value)
    assert settings.load(environment(tmp_path, VAESVC_S3_BUCKET="Old_Bucket.1")).s3.bucket == "Old_Bucket.1"


def test_fault_13a_an_s3_address_without_a_scheme_is_refused(tmp_path: Path) -> None:
    for wrong in ("s3.example:9000", "https://", "ftp://s3.example"):
        with pytest.raises(UsageError, match=r"s3\.endpoint_url = .*begins with http:// or https://"):
            settings.load(environment(tmp_path, VAESVC_S3_ENDPOINT_URL=wrong))
        with pytest.raises(UsageError, match=r"\(from AWS_ENDPOINT_URL_S3\): .*begins with http:// or https://"):
            settings.load(environment(tmp_path, AWS_ENDPOINT_URL_S3=wrong))


def test_wrong_secrets_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        settings.load(environment(tmp_path, '[s3]\nsecret_key = ["hunter2"]'))
    assert "hunter2" not in str(caught.value)
    found = settings.load(environment(tmp_path, VAESVC_S3_SECRET_KEY="hunter2", VAESVC_TOKEN="hunter3"))
    database = settings.load(environment(tmp_path, VAESVC_DATABASE_URL="postgresql+psycopg://u:hunter4@h/d"))
    assert not any(secret in f"{found!r}{found}{database!r}{database}" for secret in ("hunter2", "hunter3", "hunter4"))
    assert found.storage().secret_key == "hunter2"
    assert "hunter2" not in repr(found.storage())


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    found = settings.load(environment(tmp_path, 'data_dir = "sets"\ncache_dir = "~/cache"'))
    assert found.data_dir == tmp_path / "sets"
    assert found.cache_dir == Path.home() / "cache"


def test_the_database_and_the_secret_follow_home(tmp_path: Path) -> None:
    for found in (settings.Settings(home=tmp_path), settings.load({"VAESVC_CONFIG": "", "VAESVC_HOME": str(tmp_path)})):
        assert found.database_url == f"sqlite:///{tmp_path}/vaesvc.db"
        assert found.secret_file == tmp_path / "secret"
    assert settings.Settings(home=tmp_path, database_url="sqlite:///x").database_url == "sqlite:///x"


def test_the_aws_tools_variables_stand_below_ours(tmp_path: Path) -> None:
    aws = {
        "AWS_ENDPOINT_URL": "http://all",
        "AWS_ENDPOINT_URL_S3": "http://s3",
        "AWS_REGION": "eu-north-1",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
    }
    storage = settings.load(environment(tmp_path, **aws)).storage()
    assert (storage.endpoint_url, storage.region) == ("http://s3", "eu-north-1")
    assert (storage.access_key, storage.secret_key) == ("id", "key")
    ours = settings.load(environment(tmp_path, **aws, VAESVC_S3_ENDPOINT_URL="http://ours"))
    assert ours.storage().endpoint_url == "http://ours"
    assert not settings.load(environment(tmp_path, **aws)).explicit("s3.endpoint_url")
    short_lived = settings.load(environment(tmp_path, **aws, AWS_SESSION_TOKEN="t")).storage()
    assert (short_lived.access_key, short_lived.secret_key) == (None, None)
    running_stack(tmp_path / "home")
    assert settings.load(environment(tmp_path, **aws)).storage().endpoint_url == STACK["s3.endpoint_url"]


def test_tokens_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "token"
    found = settings.load(environment(tmp_path, VAESVC_TOKEN_FILE=str(file)))
    with pytest.raises(AuthError, match=r"token \(named by VAESVC_TOKEN_FILE\): No such file"):
        found.user_token()
    file.write_text("\n")
    with pytest.raises(AuthError, match="is empty"):
        found.user_token()
    file.write_text("abc\n")
    assert found.user_token() == "abc"
    assert settings.load(environment(tmp_path, VAESVC_TOKEN="given")).user_token() == "given"
    assert settings.load(environment(tmp_path)).user_token() is None


def test_what_a_stack_offers_fills_what_the_user_left_open(tmp_path: Path) -> None:
    given = settings.load(environment(tmp_path, VAESVC_MLFLOW_URI="http://mine", VAESVC_S3_PREFIX="team"))
    found = settings.with_stack(given, STACK)
    assert (found.mlflow_uri, found.origin("mlflow_uri")) == ("http://mine", "VAESVC_MLFLOW_URI")
    assert (found.api_url, found.origin("api_url")) == (STACK["api_url"], settings.STACK)
    assert (found.s3.prefix, found.s3.bucket) == ("team", "vaesvc")
    assert found.home == given.home
    assert settings.with_stack(settings.Settings(home=tmp_path, lease_seconds=3), STACK).lease_seconds == 3
