"""A data set's name where a job is submitted: it becomes a digest with its facts, and what does not fit is told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.artifacts import Artifacts
from service.client import Client
from service.data.upload import upload
from service.errors import UsageError
from service.settings import S3Settings
from tests import own_data
from tests.api_server import Api, running_api, settings_in
from tests.command import vaesvc
from vae_models.data import canonical
from vae_models.data.canonical import DATA_JSON

RECIPE = "celeba/sigma-vae-optimal"
SMALL = {"recipe": RECIPE, "train": {"data": {"name": "photos"}, "batch_size": 8}}


@pytest.fixture(scope="module")
def api(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    storage = S3Settings.model_validate(artifacts.settings.model_dump())
    with running_api(settings_in(tmp_path_factory.mktemp("service"), s3=storage)) as running:
        yield running


@pytest.fixture(scope="module")
def client(api: Api) -> Iterator[Client]:
    with api.client() as made:
        yield made


@pytest.fixture(scope="module")
def sets(client: Client, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two sets of 16 x 16 pixels: the names `photos` and `portraits`, and their digests."""
    found = {}
    for number, name in enumerate(("photos", "portraits")):
        folder = tmp_path_factory.mktemp(name)
        found[name] = own_data.write(folder, seed=number, name=name, shape=(3, 16, 16))
        upload(folder, name, client)
    return found


@pytest.fixture
def env(api: Api, tmp_path: Path) -> dict[str, str]:
    own = {"VAESVC_HOME": str(tmp_path / "home"), "VAESVC_CONFIG": "", "VAESVC_CACHE_DIR": str(tmp_path / "cache")}
    return {**os.environ, **own, "VAESVC_API_URL": api.url, "VAESVC_TOKEN": api.token}


def data_of(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["train"]["data"]
    return found


# --- the API --------------------------------------------------------------------------------------------------------


def test_a_name_becomes_a_digest_that_stays(client: Client, sets: dict[str, str], tmp_path: Path) -> None:
    job = client.submit(SMALL)
    found = data_of(job.spec)
    assert (found["name"], found["digest"]) == ("photos", sets["photos"])
    assert (found["facts"]["shape"], found["facts"]["sizes"]) == ([3, 16, 16], [40, 10, 10])
    client.data.point("photos", sets["portraits"])
    try:
        assert data_of(client.job(job.id).job.spec)["digest"] == sets["photos"]
        assert data_of(client.submit(SMALL).spec)["digest"] == sets["portraits"]
        assert data_of(client.submit(job.spec).spec)["digest"] == sets["photos"]  # a resolved one is as it is
    finally:
        client.data.point("photos", sets["photos"])
    assert job.id in client.data.detail("photos").jobs


def test_a_study_trains_on_the_set_that_its_base_names(client: Client, sets: dict[str, str]) -> None:
    stage = {"name": "rates", "space": {"optimizer.lr": [1e-3, 1e-4]}}
    study = {"base": {"recipe": RECIPE, "data.name": "photos", "batch_size": 8}, "stages": [stage]}
    base = client.submit(study).spec["study"]["base"]
    assert base["data"]["digest"] == sets["photos"]
    varied = {**study, "stages": [{"name": "sets", "space": {"data.name": ["photos", "portraits"]}}]}
    with pytest.raises(UsageError, match=r"data.name: 'photos' is a set of your own, .* vary whole mappings"):
        client.submit(varied)


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ({"data": {"name": "photoss"}}, r"data.name: there is no data set 'photoss'; did you mean photos\?"),
        ({"data": {"name": "mnst"}}, r"did you mean mnist"),
        ({}, r"batch_size: 128 is more than the 40 training data of photos"),
        (
            {"data": {"name": "photos", "binarize": "threshold"}, "model": {"likelihood": {"kind": "categorical"}}},
            r"categorical",
        ),
        ({"batch_size": 8, "model": {"backbone": {"kind": "conv", "channels": [8] * 6}}}, r"16"),
    ],
)
def test_what_does_not_fit_is_told_at_submit(
    client: Client, sets: dict[str, str], train: dict[str, Any], told: str
) -> None:
    whole = {"recipe": RECIPE, "train": {"data": {"name": "photos"}, **train}}
    with pytest.raises(UsageError, match=told):
        client.submit(whole)


def test_a_resolved_spec_is_not_believed(client: Client, sets: dict[str, str]) -> None:
    spec = client.dry_run(SMALL)
    data_of(spec)["facts"]["sizes"] = [10**6, 10, 10]
    with pytest.raises(UsageError, match=r"train.data.facts: are not those of .* Leave facts and digest out"):
        client.submit(spec)
    data_of(spec)["digest"] = "c" * 64
    with pytest.raises(
        UsageError, match=r"train.data.digest: no data set cccc.* is stored here: add it with vaesvc data"
    ):
        client.submit(spec)


def test_where_users_see_their_own_a_digest_opens_nothing(artifacts: Artifacts, tmp_path: Path) -> None:
    storage = S3Settings.model_validate(artifacts.settings.model_dump())
    own_data.write(tmp_path / "set", shape=(3, 16, 16), test="closed")
    with (
        running_api(settings_in(tmp_path / "service", s3=storage, read="own")) as api,
        api.client() as ann, api.user("bob") as bob,
    ):  # fmt: skip
        upload(tmp_path / "set", "photos", ann)
        spec = ann.dry_run(SMALL)
        with pytest.raises(UsageError, match=r"there is no data set 'photos'; Your own"):
            bob.submit(SMALL)
        with pytest.raises(UsageError, match=r"is stored here"):
            bob.submit(spec)
        assert ann.submit(spec).state == "QUEUED"


# --- the command line -----------------------------------------------------------------------------------------------


def photographs(folder: Path, count: int = 30) -> Path:
    """Pictures of several sizes, one lying on its side."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = rng.integers(20, 40, 2)
        picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held upright
        picture.save(folder / f"IMG {number:03d}.jpg", exif=exif if number == 3 else b"")
    return folder


def kept_for(env: dict[str, str], digest: str) -> list[str]:
    """Return the first and the last column of the line in which `data list` has this set."""
    header, *lines = vaesvc(env, "data", "list").stdout.splitlines()
    (line,) = [line for line in lines if digest[:12] in line]
    return [line.split()[0], line[header.index("kept for") :]]


def test_add_list_show_and_remove(api: Api, env: dict[str, str], client: Client, tmp_path: Path) -> None:
    added = vaesvc(env, "data", "add", "holiday", str(photographs(tmp_path / "photos")), "--size", "16")
    assert "vaesvc submit celeba/sigma-vae-optimal --data holiday" in added.stderr
    digest = client.data.detail("holiday").data.digest
    assert digest in added.stdout
    listed = vaesvc(env, "data", "list").stdout
    assert "3x16x16" in listed
    assert "24/3/3" in listed
    (plain,) = [each for each in json.loads(vaesvc(env, "data", "list", "--json").stdout) if each["name"] == "holiday"]
    assert (plain["digest"], plain["owner"], plain["facts"]["sizes"]) == (digest, "ann", [24, 3, 3])
    for cache in (env["VAESVC_CACHE_DIR"], str(tmp_path / "another machine")):  # here, and from the bucket
        out = tmp_path / "few.png"
        shown = vaesvc(env | {"VAESVC_CACHE_DIR": cache}, "data", "show", "holiday", "--out", str(out))
        assert digest in shown.stdout
        with Image.open(out) as picture:
            assert min(picture.size) > 100
        out.unlink()
    job = vaesvc(env, "submit", RECIPE, "--data", "holiday", "--set", "batch_size=8").stdout.strip()
    assert kept_for(env, digest) == ["holiday", f"the name, 1 job ({job})"]
    assert f"the name, 1 job ({job})" in vaesvc(env, "data", "show", "holiday", "--out", str(out)).stdout
    removed = vaesvc(env, "data", "rm", "holiday")
    assert f"Jobs that are not over hold its digest and run all the same: {job}" in removed.stderr
    assert kept_for(env, digest) == ["-", f"1 job ({job})"]
    plain_sets = json.loads(vaesvc(env, "data", "list", "--json").stdout)
    assert [each["kept"]["last_job"] for each in plain_sets if (each["name"], each["digest"]) == (None, digest)] == [
        job
    ]
    with api.user("bob") as bob:
        upload(tmp_path / "cache" / "own" / digest, "bobs", bob)
    for name, told in (("mnist", "is a published data set's name"), ("bobs", "is bob's, and you are ann")):
        refused = vaesvc(env, "data", "add", name, str(tmp_path / "nothing is decoded"), code=2)
        assert told in refused.stderr
    gone = vaesvc(env, "data", "show", "holiday", code=2)
    assert gone.stderr.startswith("vaesvc: no data set is named 'holiday'")
    assert data_of(client.job(job).job.spec)["digest"] == digest


def test_data_takes_the_place_of_the_recipes(env: dict[str, str], sets: dict[str, str]) -> None:
    """What the recipe does to its own data is left out; what is said beside it counts."""
    mine = ("--data", "photos", "--set", "batch_size=8", "--set", "model.likelihood={kind: gaussian}")
    shown = vaesvc(env, "submit", "mnist/noise-uniform-iso-i", *mine, "--dry-run", "--json").stdout
    data = data_of(json.loads(shown))
    assert (data["digest"], data["binarize"], data["noise"]) == (sets["photos"], "none", {"kind": "none"})
    more = vaesvc(env, "submit", RECIPE, *mine, "--set", "data.binarize=dynamic", "--dry-run", "--json").stdout
    assert data_of(json.loads(more))["binarize"] == "dynamic"


def test_without_a_service_everything_stays_here(env: dict[str, str], tmp_path: Path) -> None:
    alone = {name: value for name, value in env.items() if name not in ("VAESVC_API_URL", "VAESVC_TOKEN")}
    added = vaesvc(alone, "data", "add", "mine", str(photographs(tmp_path / "photos")), "--size", "16")
    assert "No service is set up" in added.stderr
    assert "mine" in vaesvc(alone, "data", "list").stdout
    quick = ("--set", "batch_size=8", "--set", "steps=3", "--set", "evaluation.batch_size=3")
    run = vaesvc(alone, "run", RECIPE, "--data", "mine", *quick, "--out", str(tmp_path / "run"), seconds=120)
    assert "Done: 3 steps" in run.stderr
    assert "mine" in vaesvc(alone, "run", RECIPE, "--data", "mien", code=2).stderr


def test_run_takes_a_path_and_a_name_of_the_service(env: dict[str, str], sets: dict[str, str], tmp_path: Path) -> None:
    quick = ("--set", "batch_size=8", "--set", "steps=3", "--set", "evaluation.batch_size=3")
    run = vaesvc(env, "run", RECIPE, "--data", "portraits", *quick, "--out", str(tmp_path / "run"), seconds=120)
    assert "Done: 3 steps" in run.stderr
    fetched = Path(env["VAESVC_CACHE_DIR"]) / "own" / sets["portraits"] / DATA_JSON
    assert canonical.digest_of(fetched.read_bytes()) == sets["portraits"]
    np.save(tmp_path / "blobs.npy", np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8))
    path = str(tmp_path / "blobs.npy")
    run = vaesvc(env, "run", RECIPE, "--data", path, *quick, "--out", str(tmp_path / "path"), seconds=120)
    assert "Done: 3 steps" in run.stderr
