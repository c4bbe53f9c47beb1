"""kind: evaluate. What the papers measure about a trained model, found out on a gang of workers."""

from __future__ import annotations

from types import MappingProxyType

from service.kinds.kind import Command, Kind, Next

KIND = Kind(
    kind="evaluate",
    noun="an evaluation",
    local="vaesvc evaluate",
    spec="service.kinds.evaluate.spec:EvaluateSpec",
    shows="vaesvc show {job}",
    shown="every value with its error",
    resolve="service.kinds.evaluate.spec:resolve_given",
    settle="service.kinds.evaluate.settle:settle",
    follows=Next(read="service.kinds.evaluate.following:read", specs="service.kinds.evaluate.following:specs"),
    config="service.kinds.evaluate.spec:config",
    view="service.kinds.evaluate.view:view",
    progress="service.kinds.evaluate.text:progress",
    outcome="service.kinds.evaluate.text:outcome",
    run="service.kinds.evaluate.ray_run:run",
    routes="service.kinds.evaluate.routes:add",
    follow="service.kinds.evaluate.follow:follow",
    plan="service.kinds.evaluate.plan:plan",
    commands=MappingProxyType(
        {
            "evaluate": Command(
                help="Find out what the papers measure about a model.", app="service.kinds.evaluate.commands:evaluate"
            )
        }
    ),
)
