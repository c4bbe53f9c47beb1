"""Packs and devices of a study: one pack for each GPU, which knows its own. No GPU is needed for it."""

from __future__ import annotations

import pytest
import torch

from service.kinds.study import devices
from service.queue.jobs import Resources


@pytest.mark.parametrize(
    ("resources", "packs", "bundle"),
    [
        ({"workers": 3, "cpus_per_worker": 2}, 3, {"CPU": 2}),
        ({"workers": 2, "gpus_per_worker": 0.5}, 2, {"CPU": 1, "GPU": 0.5}),
        ({"workers": 2, "gpus_per_worker": 1}, 2, {"CPU": 1, "GPU": 1}),
        (
            {"workers": 2, "gpus_per_worker": 4, "cpus_per_worker": 8, "memory_per_worker": 400},
            8, {"CPU": 2, "GPU": 1, "memory": 100},
        ),
    ],
)  # fmt: skip
def test_a_worker_with_several_gpus_has_a_pack_for_each(
    resources: dict[str, float], packs: int, bundle: dict[str, float]
) -> None:
    """All packs together take what the gang was given, so nothing of it idles and nothing is taken twice."""
    gang = Resources.model_validate(resources)
    assert (devices.packs(gang), devices.bundle(gang)) == (packs, bundle)
    assert {name: packs * amount for name, amount in bundle.items()} == gang.total()


@pytest.mark.parametrize(
    ("given", "shown", "number"),
    [
        ([2], "2", 0),  # Ray shows a process its own alone
        ([2], "0,1,2,3", 2),  # operators have Ray not hide the others
        ([3], "1,3", 1),
        ([1], None, 1),
        (["GPU-8f1c"], "GPU-77aa,GPU-8f1c", 1),
        ([], "0", 0),
    ],
)
def test_each_pack_is_told_its_device(
    given: list[int | str], shown: str | None, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shown is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    used: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    assert devices.device(Resources(gpus_per_worker=1), given) == torch.device("cuda", number)
    assert used == [torch.device("cuda", number)]


def test_without_gpus_it_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert devices.device(Resources(), []) == torch.device("cpu")
