"""kind: study. A search: many configurations as one job, and which of them won."""

from __future__ import annotations

from types import MappingProxyType

from service.kinds.kind import Kind

KIND = Kind(
    kind="study",
    noun="a study",
    local="vaesvc study run",
    shows="vaesvc study show {job}",
    shown="every trial, best first",
    remarks=MappingProxyType({"trials": "one run each, below this one"}),
    spec="service.kinds.study.spec:StudySpec",
    recognises="service.kinds.study.spec:recognises",
    resolve="service.kinds.study.spec:resolve_given",
    config="service.kinds.study.spec:config",
    choose="service.kinds.study.result:choose",
    plan="service.cli.study:plan",
    run="service.launch.study:run",
)
