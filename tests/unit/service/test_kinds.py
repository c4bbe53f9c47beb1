"""A kind of job is found by its name, its pieces are where it says, and one that is not installed is data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

from service import kinds
from service.errors import UsageError
from service.kinds.kind import Kind, loaded, wrong
from service.specs.job import JobSpec

PIECES = (
    *("spec", "run", "recognises", "resolve", "policy", "choose", "config"),
    *("view", "progress", "outcome", "follow", "plan", "routes"),
)


class CountSpec(JobSpec):
    kind: Literal["count"] = "count"
    of: str = "digits/beta-vae-mlp"
    depth: int = 1


COUNT = Kind(kind="count", spec=CountSpec, run=lambda assignment, spec: {"parameters": 3})


@pytest.mark.parametrize("kind", kinds.KINDS.kinds())
def test_every_piece_of_our_kinds_is_where_it_says(kind: str) -> None:
    for piece in PIECES:
        value = getattr(kinds.KINDS.get(kind), piece)
        assert value is None or callable(loaded(value)), piece
    for amendment in kinds.KINDS.get(kind).amendments.values():
        assert callable(loaded(amendment.apply))
        assert callable(loaded(amendment.request))
    for command in kinds.KINDS.get(kind).commands.values():
        assert loaded(command.app) is not None


def test_kinds_are_listed_without_loading_what_they_need() -> None:
    program = (
        "import sys; from service import kinds; kinds.KINDS.all();"
        "print([name for name in ('torch', 'ray', 'pydantic', 'sqlalchemy', 'numpy') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout == "[]\n"


@pytest.mark.parametrize("kind", ["stduy", "count"])
def test_a_kind_that_there_is_not_is_named_with_those_there_are(kind: str) -> None:
    with pytest.raises(UsageError, match=rf"there is no job-kind '{kind}'.*There are: train, study"):
        kinds.resolve({"kind": kind, "name": "mine"})


def test_a_kind_that_comes_with_the_jobs_own_code_is_kept_as_data() -> None:
    code = {"digest": "a" * 64, "name": "my-parts", "version": "1.0"}
    given = {"kind": "count", "code": code, "of": {"deep": [1, 2]}, "resources": {"workers": 2}}
    spec = kinds.resolve(given, ["priority=3"], name="mine")
    assert (spec.kind, spec.name, spec.register_as, spec.priority, spec.resources.workers) == (
        "count",
        "mine",
        "mine",
        3,
        2,
    )
    data = spec.model_dump(mode="json")
    assert (data["of"], data["code"]) == ({"deep": [1, 2]}, code)
    assert kinds.parse(data) == spec
    with pytest.raises(UsageError, match=r"resources\.workers: 0"):  # what every job says is checked all the same
        kinds.resolve(given | {"resources": {"workers": 0}})


def test_a_kind_of_a_spec_and_a_run_is_a_whole_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert wrong(COUNT) is None
    monkeypatch.setattr(kinds.KINDS, "_own", {**kinds.KINDS.registered(), "count": _registered(COUNT)})
    monkeypatch.setattr(kinds.KINDS, "_parts", None)
    path = tmp_path / "how-many.yaml"
    path.write_text("kind: count\ndepth: 2\n")
    spec = kinds.resolve(path, ["of=mnist/beta-vae-cnn"], resources={"workers": 3})
    assert spec == CountSpec(
        name="how-many", register_as="how-many", depth=2, of="mnist/beta-vae-cnn", resources={"workers": 3}
    )
    assert kinds.parse(spec.model_dump(mode="json")) == spec
    with pytest.raises(UsageError, match=r"deep: there is no such path.*did you mean depth\?"):
        kinds.resolve(path, ["deep=3"])
    with pytest.raises(UsageError, match="depth: true and false are not numbers"):
        kinds.resolve(path, ["depth=true"])


def _registered(kind: Kind) -> Any:
    from vae_models.parts import Registered

    return Registered(kind=kind.kind, part=kind, value="tests", package="tests")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (CountSpec, "is no service.kinds.kind.Kind"),
        (Kind(kind="count", spec=dict, run=print), "no class below"),  # type: ignore[arg-type]
        (Kind(kind="counts", spec=CountSpec, run=print), "'counts'"),
        (Kind(kind="count", spec=CountSpec, run=3), "cannot be called"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_kind_says_why(part: object, said: str) -> None:
    assert said in str(wrong(part))
