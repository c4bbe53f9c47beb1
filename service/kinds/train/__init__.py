"""kind: train. One run of the training loop on a gang of workers."""

from __future__ import annotations

from types import MappingProxyType

from service.kinds.kind import Amendment, Command, Kind

KIND = Kind(
    kind="train",
    noun="a training run",
    local="vaesvc run",
    spec="service.kinds.train.spec:TrainSpec",
    resolve="service.kinds.train.spec:resolve_given",
    settle="service.kinds.train.start:settle",
    config="service.kinds.train.spec:config",
    policy="service.kinds.train.policy:policy",
    amendments=MappingProxyType(
        {
            "lengthen": Amendment(
                request="service.kinds.train.policy:Lengthen", apply="service.kinds.train.policy:lengthen", over=True
            )
        }
    ),
    choose="service.kinds.train.result:choose",
    routes="service.kinds.train.routes:add",
    progress="service.kinds.train.text:progress",
    outcome="service.kinds.train.text:outcome",
    plan="service.kinds.train.plan:plan",
    commands=MappingProxyType(
        {"run": Command(help="Train in this process, into a folder.", app="service.cli.local:run")}
    ),
    run="service.kinds.train.ray_run:run",
)
