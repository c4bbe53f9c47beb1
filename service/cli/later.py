"""Commands that are listed by name and help, and loaded when one is used: `vaesvc --help` pays for none of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from service.kinds.kind import Command

_USE = "service.cli.use"

LATER: Mapping[str, Command] = MappingProxyType(
    {
        "encode": Command(
            help="Write q(z|x) of each datum: index, mean_0, ..., std_0, ... and the labels.",
            app=f"{_USE}.tables:encode",
        ),
        "score": Command(
            help="Write how unlikely each datum is, in nats: -ELBO, and -log p(x) by samples; prints the means.",
            app=f"{_USE}.tables:score",
        ),
        "reconstruct": Command(
            help="Write E[x|z] at the posterior's mean of each datum; a picture has the originals over them.",
            app=f"{_USE}.pictures:reconstruct",
        ),
        "sample": Command(
            help="Draw samples. The same seed gives the same ones, the first of them whatever the count.",
            app=f"{_USE}.pictures:sample",
        ),
        "interpolate": Command(
            help="Write E[x|z] on the way from one datum's latent to another's: a row for each pair.",
            app=f"{_USE}.pictures:interpolate",
        ),
        "traverse": Command(
            help="Write E[x|z] while one dimension of a datum's latent changes: a row for each dimension.",
            app=f"{_USE}.pictures:traverse",
        ),
        "export": Command(
            help="Write encoder.pt2 and decoder.pt2 (torch.export), compared with the model: "
            "they run with torch alone.",
            app=f"{_USE}.card:export",
        ),
        "card": Command(
            help="Write a model card in Markdown: what it is, its data and their licence, its numbers with errors, "
            "its use.",
            app=f"{_USE}.card:card",
        ),
        "data": Command(help="Your own data sets: add, list, show, remove.", app="service.cli.data:app"),
    }
)
