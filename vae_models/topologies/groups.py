"""Trained parameters by their role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn


def grouped(parts: Mapping[str, Iterable[object]]) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of the modules of each group, each once: in the first group that has it.

    Parts that are no modules have none. The parameters are looked up at each call, so that inside of
    `torch.func.functional_call` they are the ones that were given there.
    """
    seen: set[int] = set()
    groups: dict[str, list[nn.Parameter]] = {}
    for name, modules in parts.items():
        groups[name] = []
        for module in modules:
            for parameter in module.parameters() if isinstance(module, nn.Module) else ():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    groups[name].append(parameter)
    return groups
