"""Commands that are loaded when one is used are listed as they are."""

from __future__ import annotations

import pytest

from service.cli.later import LATER
from service.cli.mounted import Mounted


@pytest.mark.parametrize("name", LATER)
def test_a_command_is_listed_by_the_first_sentence_of_its_own_help(name: str) -> None:
    listed = Mounted(name, LATER[name])
    real = listed.real()
    assert real.name == name
    assert real.help is not None
    assert real.help.partition("\n\n")[0] == LATER[name].help
    assert real.get_short_help_str() == listed.get_short_help_str()
