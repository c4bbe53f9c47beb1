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

# the archive that Hu et al. 2019 (Texar, examples/vae_text) point to; no sums of it are published
_YAHOO_HOME = "https://drive.google.com/file/d/13IsiffVjcQ-wrrbBGMwiG3sYf-DFxtXH/view"
_YAHOO_FOLDERS = ("data/yahoo", "yahoo_data", "yahoo/data/yahoo")  # as it is unpacked


def _by_hand(name: str) -> DataFile:
    """Return a file of Yahoo's: a document a line, its tokens apart from one another."""
    form = Form(name=name, sha256=None)
    return DataFile(
        forms=(form,), content=frozenset(), home=_YAHOO_HOME, folders=_YAHOO_FOLDERS, text=True,
        near=MappingProxyType({"yahoo.zip": "the archive: unpack it there"}),
    )  # fmt: skip


YAHOO = {
    "train": _by_hand("yahoo.train.txt"),
    "val": _by_hand("yahoo.valid.txt"),
    "test": _by_hand("yahoo.test.txt"),
}

SETS = (
    Published(
        name="tinyshakespeare",
        title="lines of Shakespeare's plays (23 tokens of 6,000)",
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
    Published(
        name="yahoo",
        title="Yahoo Answers (202 tokens of 10,000, fetched by hand)",
        terms="non-commercial research only, not to be passed on: Yahoo's Webscope agreement",
        facts=DataSpec(
            shape=(202,),
            axes=("time",),
            support="tokens",
            sizes=(100_000, 10_000, 10_000),
            lengths=True,
            vocabulary=10_000,
        ),
        folder="yahoo",
        builder="vae_models.data.builders.text:yahoo",
        files=MappingProxyType(YAHOO),
    ),
)
