"""kind: train. One run of the training loop on a gang of workers."""

from __future__ import annotations

from types import MappingProxyType

from service.kinds.kind import Command, Kind

KIND = Kind(
    kind="train",
    noun="a training run",
    local="vaesvc run",
    spec="service.kinds.train.spec:TrainSpec",
    resolve="service.kinds.train.spec:resolve_given",
    config="service.kinds.train.spec:config",
    choose="service.kinds.train.result:choose",
    progress="service.kinds.train.text:progress",
    outcome="service.kinds.train.text:outcome",
    commands=MappingProxyType(
        {"run": Command(help="Train in this process, into a folder.", app="service.cli.local:run")}
    ),
    run="service.launch.ray_train:run",
)
