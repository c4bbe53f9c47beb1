"""`vaesvc bench`: what it measures is the same model, and its tables, files and refusals are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from service.bench import by_hand, gpu, machine, measure, report
from service.bench.families import FAMILIES, Family
from service.cli.bench import bench
from service.errors import UsageError
from tuning.pace import footprint, random_data


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_family_is_a_whole_configuration_in_which_nothing_is_due_but_steps(family: Family) -> None:
    config = family.config()
    assert config.steps == 10**6
    assert not config.evaluation.pictures
    with torch.device("meta"):
        model = config.model.build(config.data.facts.shape)
        if family.by_hand is not None:
            theirs = by_hand.NETS[family.by_hand]()
            measure.same_size(
                family, *(sum(parameter.numel() for parameter in net.parameters()) for net in (theirs, model))
            )


def test_a_plain_loop_over_the_same_weights_takes_the_same_step(tmp_path: Path) -> None:
    """With the run's own noise, batch and optimizer: what the loop adds changes nothing."""
    config = FAMILIES["nvae"].config()
    config = config.model_copy(update={"batch_size": 8, "dtype": "float64"})
    data = random_data(config, 8)
    device = torch.device("cpu")
    ours, other = (measure.run_of(config, data, tmp_path / name, device) for name in ("ours", "other"))
    x, noise = other.batch()
    loss, _ = other.module(x, noise, other.control_beta(noise))
    loss.backward()
    measure.step_of(ours)()
    assert float(ours.window.read(1)["loss"]) == pytest.approx(float(loss.detach()), rel=1e-12)
    before = [parameter.detach().clone() for parameter in other.parameters]
    by_hand.same_model(other, other.train_data.batch(torch.arange(8), {}))()
    assert any(not torch.equal(old, new) for old, new in zip(before, other.parameters, strict=True))
    ours.close()
    other.close()


def test_the_net_by_hand_has_this_packages_loss() -> None:
    """The same weights, data and posterior noise: -ELBO to rounding, so both loops train one model."""
    model = FAMILIES["mlp"].config().model.build((1, 28, 28))
    net = by_hand.NETS["mlp"]()
    with torch.no_grad():
        for theirs, mine in zip(net.parameters(), model.parameters(), strict=True):
            theirs.copy_(mine)
    x = (torch.rand(16, 1, 28, 28) > 0.5).float()
    torch.manual_seed(0)
    noise = torch.randn(16, 32)
    trace = model(x, {"z": noise})
    torch.manual_seed(0)
    loss = by_hand.loss_of(net, x)
    torch.testing.assert_close(loss, (trace.distortion + trace.rate).mean(), rtol=1e-5, atol=1e-3)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    threads = torch.get_num_threads()
    try:
        (found,) = measure.bench(["mlp"], threads=1, rounds=1)
        return found
    finally:
        torch.set_num_threads(threads)


def test_the_table_and_the_file(measured: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = [report.row(each) for each in measured["families"]]
    assert len(row) == len(report.HEADER)
    assert row[:3] == ["mlp", "853,840", "128"]
    assert row[4].endswith(" x")
    assert "GFLOP/s" in " ".join(report.notes(measured))
    twice = {**measured, "families": [dict(each) for each in measured["families"]]}
    twice["families"][0]["seconds"] = {"vaesvc": measured["families"][0]["seconds"]["vaesvc"] / 2}
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    for path, each in zip(paths, (measured, twice), strict=True):
        report.write(path, each)
        assert report.read(path) == json.loads(json.dumps(each))
    bench(compare=(paths[0], paths[1]))
    assert "2.00 x" in capsys.readouterr().out


def test_the_table_of_a_compiled_step_has_its_ratios_too(measured: dict[str, Any]) -> None:
    """Beside the same run compiled; where none was measured there are no such columns."""
    assert report.header(measured) == report.HEADER
    ratios = {"vaesvc": 1.1, "plain loop": 1.2, "pythae": 1.375}
    (family,) = measured["families"]
    compiled = {**measured, "families": [{**family, "times_compiled": ratios, "compile_seconds": 25.4}]}
    header = report.header(compiled)
    shown = dict(zip(header, report.row(compiled["families"][0]), strict=True))
    assert [shown[name] for name in report.COMPILED] == ["1.10 x", "1.20 x", "-", "1.38 x", "25"]


def test_arithmetic_is_counted_forwards_and_backwards(measured: dict[str, Any]) -> None:
    """Of an MLP: 2 operations for each weight and datum, as many for either gradient; x of the first layer has none."""
    (family,) = measured["families"]
    weights = 784 * 512 + 2 * 512 * 32 + 32 * 512 + 512 * 784
    assert family["operations"] == 2 * 128 * (3 * weights - 784 * 512)
    limits = machine.Limits(flops=1e9, bandwidth=1e9)
    assert limits.seconds(1e9, 10**9) == pytest.approx(29.0)


def test_memory_is_weights_moments_and_a_step(tmp_path: Path) -> None:
    config = FAMILIES["mlp"].config()
    run = measure.run_of(config, random_data(config, 128), tmp_path, torch.device("cpu"))
    memory = footprint(run)
    run.close()
    assert 3 * 4 * 853_840 <= memory.weights <= 3 * 4 * 853_840 + 4096
    assert memory.step > 4 * (853_840 + 128 * 784)  # gradients, and the batch alone


def test_the_gpus_section_ends_in_time_and_says_what_it_left_out() -> None:
    """A rehearsal on this processor, whose time is over after the first measurement."""
    found = gpu.bench(torch.device("cpu"), seconds=0)
    assert [each["what"] for each in found["gpu"]] == ["mlp float32"]
    assert len(found["left_out"]) == len(gpu.FIRST) * len(gpu.PRECISIONS) + len(gpu.LANES) + len(FAMILIES) - 5
    assert all("no time was left" in line for line in found["left_out"])
    assert len(gpu.rows(found)[0]) == len(gpu.HEADER)
    json.dumps(found)


def test_lanes_are_measured_beside_one() -> None:
    one: list[float] = []
    limits = machine.Limits(flops=1e11, bandwidth=1e10)
    for lanes in (1, 2):
        found = gpu._lanes(lanes, torch.device("cpu"), limits, one)
    assert found["beside"]["one lane"] == pytest.approx(one[1] / one[0])


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no family 'mpl': there are mlp, cnn"):
        bench(["mpl"])
    other = tmp_path / "other.json"
    other.write_text("[]")
    with pytest.raises(UsageError, match="is not what `vaesvc bench --json` writes"):
        bench(compare=(other, other))
    with pytest.raises(UsageError, match=r"none/a\.json cannot be written"):
        report.write(tmp_path / "none" / "a.json", {})
    with pytest.raises(UsageError, match="cannot be read"):
        bench(compare=(tmp_path / "none.json", other))
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="there is no GPU here"):
            bench(gpu=True)
