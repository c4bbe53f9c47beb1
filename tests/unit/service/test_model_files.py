"""What a model may consist of, and how it is named."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from service import model_files
from service.errors import StorageError, UntrustedError, UsageError

OURS: dict[str, Any] = {
    "flavors": {"python_function": {"loader_module": "service.pyfunc", "python_version": "3.12.1"}},
    "metadata": {"vaesvc.step": 5},
    "mlflow_version": "3.17.0",
}


def flavor(**changes: Any) -> dict[str, Any]:
    return OURS | {"flavors": {"python_function": {**OURS["flavors"]["python_function"], **changes}}}


def test_our_own_description_is_taken() -> None:
    assert model_files.check_mlmodel(yaml.safe_dump(OURS).encode(), "it") == OURS


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (flavor(loader_module="mlflow.pyfunc.model"), "names the loader 'mlflow.pyfunc.model'"),
        (flavor(loader_module="service.pyfunc.evil"), "names the loader"),
        (flavor(loader_module=["service.pyfunc"]), "names the loader"),
        (flavor(code="code"), "'code'"),
        (flavor(data="model.pkl"), "'data'"),
        (flavor(env={"conda": "conda.yaml"}), "'env'"),
        (flavor(model_code_path="model.py"), "'model_code_path'"),
        (OURS | {"flavors": {**OURS["flavors"], "sklearn": {"pickled_model": "model.pkl"}}}, "'sklearn'"),
        (OURS | {"resources": "x"}, "'resources'"),
        ({}, "not one of this service"),
        ([], "not one of this service"),
    ],
)
def test_fault_01_code_pickle_and_other_loaders_are_refused(described: Any, words: str) -> None:
    with pytest.raises(UntrustedError, match=words):
        model_files.check_mlmodel(yaml.safe_dump(described).encode(), "it")


@pytest.mark.parametrize(
    "text", [b"!!python/object/apply:os.system ['true']", b"\xff", b"a: [", b"x" * (2 << 20), b"a: &a [*a]"]
)
def test_fault_01_what_is_no_plain_yaml_is_refused(text: bytes) -> None:
    with pytest.raises(UntrustedError, match="not one of this service"):
        model_files.check_mlmodel(text, "it")


@pytest.mark.parametrize("name", ["model.pkl", "code/model.py", "python_model.pkl", "requirements.txt", "conda.yaml"])
def test_fault_01_files_that_no_model_has_are_refused(name: str) -> None:
    with pytest.raises(UntrustedError, match=name):
        model_files.check_names({*model_files.REQUIRED, name}, "it")


def test_a_model_is_whole() -> None:
    model_files.check_names({*model_files.REQUIRED, *model_files.OPTIONAL}, "it")
    with pytest.raises(StorageError, match="lacks"):
        model_files.check_names(model_files.REQUIRED - {"config.json"}, "it")


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("digits-beta.v2_x", "digits-beta.v2_x", None), ("m@best", "m", None), ("m@3", "m", 3), ("m/3", "m", 3),
        ("models:/m@best", "m", None), ("models:/m/12", "m", 12),
    ],
)  # fmt: skip
def test_models_are_named_as_people_write_them(text: str, name: str, version: int | None) -> None:
    assert model_files.reference(text) == model_files.Reference(name=name, version=version)


@pytest.mark.parametrize("text", ["", "@best", "m@", "m/x", "m@worst", "a/b/c", "../m", "m@best/3", "s3://b/m", "m\n"])
def test_what_names_no_model_is_said(text: str) -> None:
    with pytest.raises(UsageError, match=r"looks like NAME|there is no alias"):
        model_files.reference(text)
