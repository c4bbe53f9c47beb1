"""A report compares what may be compared, escapes what it is told, and asks for nothing outside itself."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from service.errors import StorageError, UsageError
from service.report import compare, folder, page
from service.report.records import Evaluated, Reported
from vae_models.evaluation.findings import Findings, Picture, Table, Value
from vae_models.metrics.pictures import film, samples
from vae_models.recipes import catalogue

NASTY = "</title><script>alert(1)</script>\"'&$x$"


def spec(**changes: Any) -> dict[str, Any]:
    plain = catalogue()["digits/beta-vae-mlp"].build().model_dump(mode="json")
    return {**plain, **changes}


def value(name: str, number: float, error: float | None = 0.1, **fields: Any) -> Value:
    return Value(
        **{"name": name, "value": number, "error": error, "unit": "nats", "mode": "max", "count": 250, **fields}
    )


def model(
    *values: Value,
    name: str = "a",
    changes: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Reported:
    findings = Findings(values=values, **fields)
    evaluated = (Evaluated(plan=plan or {"split": "test", "seed": 0}, findings=findings),) if values or fields else ()
    return Reported(name=name, facts={"folder": name}, spec=spec(**(changes or {})), evaluated=evaluated)


def rows(*models: Reported) -> dict[str, compare.Row]:
    return {row.name: row for group in compare.groups(models) for row in group.rows}


def test_the_best_is_marked_by_the_values_own_direction_and_what_is_close_is_said() -> None:
    found = rows(
        model(value("elbo", -10.0), value("fid", 30.0, mode="min"), value("units", 3, mode=None)),
        model(value("elbo", -9.0), value("fid", 20.0, mode="min"), value("units", 5, mode=None)),
        model(value("elbo", -9.1), value("fid", 20.0, mode="min", error=None)),
    )
    assert (found["elbo"].best, found["elbo"].close) == ({1}, {2})  # 0.1 apart, 2 sqrt(0.1^2 + 0.1^2) = 0.28
    assert (found["fid"].best, found["fid"].close) == ({1, 2}, frozenset())
    assert found["units"].best == frozenset()
    assert found["units"].values[2] is None


def test_one_model_is_the_best_of_nothing() -> None:
    assert rows(model(value("elbo", -10.0)))["elbo"].best == frozenset()


def test_a_density_and_masses_are_in_groups_of_their_own() -> None:
    found = compare.groups(
        [
            model(value("elbo", -10.0, measure="density"), value("rate", 3.0)),
            model(value("elbo", -90.0, measure="mass", levels=2), value("rate", 4.0)),
            model(value("elbo", -900.0, measure="mass", levels=256), value("rate", 5.0)),
        ]
    )
    assert [(group.measure, [row.name for row in group.rows]) for group in found] == [
        ("density", ["elbo"]),
        ("mass of 2 levels", ["elbo"]),
        ("mass of 256 levels", ["elbo"]),
        ("", ["rate"]),
    ]
    assert all(not row.best for group in found[:3] for row in group.rows)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (model(value("elbo", -9.0), changes={"data": {"name": "mnist"}}), "within the same data alone"),
        (model(value("elbo", -9.0, count=100)), "of 100 and 250 data: not compared"),
    ],
)
def test_values_of_other_data_are_not_compared(other: Reported, why: str) -> None:
    row = rows(model(value("elbo", -10.0)), other)["elbo"]
    assert row.best == frozenset()
    assert why in row.why
    three = rows(model(value("elbo", -10.0)), other, model(value("elbo", -12.0)))["elbo"]
    assert three.best == {0}


def test_a_density_of_z_is_of_one_models_samplers() -> None:
    row = rows(*(model(value("latent_log_density/prior", number)) for number in (-7.0, -15.0)))[
        "latent_log_density/prior"
    ]
    assert (row.best, row.close) == (frozenset(), frozenset())
    assert "own z" in row.why


def test_a_group_shows_the_models_that_have_something_in_it() -> None:
    density, _, rest = compare.groups(
        [
            model(value("elbo", -1.0, measure="density"), value("rate", 1.0)),
            model(value("elbo", -1.0, measure="mass", levels=2), value("rate", 1.0)),
            model(value("elbo", -1.0, measure="density")),
        ]
    )
    assert (density.places, rest.places) == ((0, 2), (0, 1))


def test_settings_that_differ_are_told_from_those_that_do_not() -> None:
    deeper = spec()
    deeper["model"] = {**deeper["model"], "latent": 4, "prior": {"kind": "vampprior", "components": 5}}
    models = [model(), model(changes=deeper)]
    found = {setting.path: setting.texts for setting in compare.settings(models) if setting.differs}
    assert found["model.latent"] == ("16", "4")
    assert found["model.prior"] == ("standard-normal", "vampprior")
    assert found["model.prior.components"] == (None, "5")
    assert len(found) == 3


def test_samples_are_of_one_noise_where_seeds_and_latents_are_equal() -> None:
    one = model(value("elbo", -1.0))
    assert list(compare.noise([one, one])) == []
    (seeds,) = compare.noise([one, model(value("elbo", -1.0), plan={"split": "test", "seed": 7})])
    assert "seeds 0, 7" in seeds
    small = spec()["model"] | {"latent": 2}
    (latents,) = compare.noise([one, model(value("elbo", -1.0), changes={"model": small})])
    assert "z of 16; z of 2" in latents


def test_letters_go_on() -> None:
    assert compare.letters(3) == ("A", "B", "C")
    assert compare.letters(54)[25:28] == ("Z", "AA", "AB")
    assert len(set(compare.letters(800))) == 800


class Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def nasty() -> Reported:
    png = samples(torch.rand(3, 1, 8, 8))
    whole = model(
        value(NASTY, -1.0, unit=NASTY, note=NASTY),
        name=NASTY,
        changes={"data": {"name": NASTY}},
        pictures=(Picture(name=f"samples/{NASTY}", png=png, caption=NASTY),),
        tables=(Table(name=NASTY, columns=(NASTY, "b"), rows=((NASTY, None),), note=NASTY),),
        notes=(NASTY,),
    )
    curve = [(1, 2.0), (2, 1.0)]
    return Reported(**{**vars(whole), "curves": {NASTY: curve, "val/$elbo": curve}, "notes": (NASTY,)})


def test_what_it_is_told_is_text_and_never_markup() -> None:
    html = page.render([nasty(), model(value("elbo", -1.0))], title=NASTY)
    tags = Reader(html).tags
    assert not [tag for tag, _ in tags if tag in ("script", "iframe", "object", "embed", "form", "base")]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_it_asks_for_nothing_outside_itself() -> None:
    html = page.render([nasty()])
    for tag, attributes in Reader(html).tags:
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, address)
    (policy,) = [each["content"] for _, each in Reader(html).tags if each.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"url\((?!#)", html)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_what_moves_is_seen_still_and_in_motion() -> None:
    gif = film(torch.rand(2, 3, 1, 8, 8), 3, row_labels=[["a"], ["b"]], outlined=[(), ()])
    still = samples(torch.rand(3, 1, 8, 8))
    html = page.render([model(pictures=(Picture(name="prediction", png=still, gif=gif, caption="Frames."),))])
    shown = [str(attributes["src"]) for tag, attributes in Reader(html).tags if tag == "img"]
    assert [base64.b64decode(each.partition("base64,")[2]) for each in shown] == [still, gif]
    assert [each.partition(";")[0] for each in shown] == ["data:image/png", "data:image/gif"]


def test_a_page_of_nothing_but_a_specification_says_so() -> None:
    assert "Nothing has been evaluated" in page.render([model()])


def test_a_folder_without_a_model_and_a_damaged_one_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model"):
        folder.reported(tmp_path)
    for text in ("{", "[]", "{}", "null"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(StorageError, match=r"config\.json is damaged"):
            folder.reported(tmp_path)
