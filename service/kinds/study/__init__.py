"""kind: study. A search: many configurations as one job, and which of them won."""

from __future__ import annotations

from types import MappingProxyType

from service.kinds.kind import Amendment, Command, Kind

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
    policy="service.kinds.study.policy:policy",
    amendments=MappingProxyType(
        {"extend": Amendment(request="service.kinds.study.policy:Extend", apply="service.kinds.study.policy:extend")}
    ),
    choose="service.kinds.study.result:choose",
    trained="service.kinds.study.result:trained",
    follow="service.kinds.study.follow:follow",
    plan="service.kinds.study.plan:plan",
    routes="service.kinds.study.routes:add",
    view="service.kinds.study.view:view",
    progress="service.kinds.study.text:progress",
    outcome="service.kinds.study.text:outcome",
    commands=MappingProxyType(
        {
            "searches": Command(
                help="List the papers' searches, by paper.", app="service.kinds.study.commands:list_searches"
            ),
            "studies": Command(help="List studies, newest first.", app="service.kinds.study.commands:list_studies"),
            "study": Command(
                help="Searches: many configurations, and which of them won.", app="service.kinds.study.commands:app"
            ),
        }
    ),
    run="service.kinds.study.ray_study:run",
)
