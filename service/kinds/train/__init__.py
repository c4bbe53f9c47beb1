"""kind: train. One run of the training loop on a gang of workers."""

from __future__ import annotations

from service.kinds.kind import Kind

KIND = Kind(
    kind="train",
    noun="a training run",
    local="vaesvc run",
    spec="service.kinds.train.spec:TrainSpec",
    resolve="service.kinds.train.spec:resolve_given",
    config="service.kinds.train.spec:config",
    choose="service.kinds.train.result:choose",
    run="service.launch.ray_train:run",
)
