"""Files of published texts."""

from __future__ import annotations

from types import MappingProxyType

from vae_models.data.catalogue.records import DataFile, Form
from vae_models.data.published import Published
from vae_models.data.spec import DataSpec

_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
_HOME = "https://github.com/karpathy/char-rnn"

TINY_SHAKESPEARE = DataFile(
    forms=(
        Form(
            name="input.txt",
            sha256=_SHA256,
            bytes=1_115_394,
            urls=("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
        ),
    ),
    content=frozenset({_SHA256}),
    home=_HOME,
)

SETS = (
    Published(
        name="tinyshakespeare",
        terms="public domain",
        facts=DataSpec(
            shape=(23,),
            axes=("time",),
            support="tokens",
            sizes=(22_969, 1_278, 1_308),
            lengths=True,
            vocabulary=6_000,
        ),
        folder="tinyshakespeare",
        builder="vae_models.data.builders.text:tinyshakespeare",
        files=MappingProxyType({"text": TINY_SHAKESPEARE}),
    ),
)
