"""Commands that are listed by name and help, and loaded when one is used: `vaesvc --help` pays for none of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from service.kinds.kind import Command

_USE = "service.cli.use"

LATER: Mapping[str, Command] = MappingProxyType(
    {
        "report": Command(
            help="Make one HTML page of several trained models: what differs, what was found out, curves, samples "
            "and pictures.",
            app="service.cli.report:report",
        ),
        "reproduce": Command(
            help="Reproduce a table or figure of a paper: train, evaluate, and say what of its claims holds here, "
            "and by how much.",
            app="service.cli.reproduce:reproduce",
        ),
        "doctor": Command(
            help="Check this machine, the settings and every server they name. Exit code 1 if something must be "
            "mended.",
            app="service.cli.doctor:doctor",
        ),
        "gc": Command(
            help="Remove logs, checkpoints, pictures, data sets and packages that the settings do not keep "
            "(docs/operations.md).",
            app="service.cli.gc:collect",
        ),
        "bench": Command(
            help="Measure training steps here: beside plain PyTorch loops, pythae if it is installed, and what the "
            "machine can do.",
            app="service.cli.bench:bench",
        ),
        "token": Command(
            help="Make, replace and revoke tokens: everybody's on the service's database (add, list, role, revoke), "
            "one's own through the service (new, mine, rotate, drop).",
            app="service.cli.tokens:app",
        ),
        "login": Command(
            help="Log in by the service's provider. The token that it ends in is kept for this service, until it ends.",
            app="service.cli.login:login",
        ),
        "logout": Command(
            help="End the login: its token is refused from now on, and its file removed.",
            app="service.cli.login:logout",
        ),
        "group": Command(
            help="Groups of users, and their weights: which part of the cluster is whose (an administrator's).",
            app="service.cli.shares:groups",
        ),
        "quota": Command(
            help="Quotas: how much a user, or a group together, may hold and ask for (an administrator's).",
            app="service.cli.shares:quotas",
        ),
        "node": Command(
            help="The cluster's nodes, and what runs there; drain one for the maintenance of its machine (operators).",
            app="service.cli.nodes:app",
        ),
        "user": Command(help="List, make and remove users (for administrators).", app="service.cli.users:app"),
        "notify": Command(help="Be told of your jobs by webhook, Slack or mail.", app="service.cli.notify:app"),
        "audit": Command(
            help="List who did what, on what, when and from where, and who was refused; newest first "
            "(for administrators).",
            app="service.cli.users:audit",
        ),
        "usage": Command(
            help="List GPU and CPU hours that jobs have held, by user, group or label.", app="service.cli.usage:usage"
        ),
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
