"""From a provider's claims to a user of this service: name, role, group, and whether they are let in. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import ForbiddenError
from service.oidc.settings import OidcSettings
from service.queue.roles import Role
from service.users.records import NAME

_RANK = {role: rank for rank, role in enumerate(Role)}  # viewer, user, operator, admin


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who somebody is to their provider, and what that makes them here."""

    issuer: str
    subject: str  # the provider's own name of them, which it gives to nobody else, ever
    name: str  # here, if they are new
    role: Role | None = None  # from now on; none: as it is
    new_role: Role | None = None  # of somebody who is new; none: they are refused
    groups: Mapping[str, str] | None = None  # the provider's groups that give one here; none: the provider gives none
    group: str | None = None  # which of ours they are in from now on; none: in none of those


def identity_of(claims: Mapping[str, Any], settings: OidcSettings) -> Identity:
    """Return who the claims are about. Raises ForbiddenError for whoever is not let in, and for claims without a
    name."""
    _check_domain(claims, settings)
    groups = _groups(claims, settings.groups_claim)
    given = settings.role_of()
    new = None if settings.new_users == "refuse" else Role(settings.new_users)
    role = None
    if given:
        roles = [given[group] for group in groups if group in given]
        role = max(roles, key=_RANK.__getitem__, default=new)
        if role is None:
            raise ForbiddenError(
                f"none of your groups at the provider is let in here: {', '.join(given)} are (the setting oidc.roles)"
            )
    ours = settings.group_of()
    return Identity(
        issuer=str(claims["iss"]),
        subject=str(claims["sub"]),
        name=_name(claims, settings.name_claim),
        role=role,
        new_role=role if given and role is not None else new,
        groups=ours or None,
        group=next((ours[group] for group in ours if group in groups), None),
    )


def lacks(claims: Mapping[str, Any], settings: OidcSettings) -> bool:
    """Return whether claims that are asked for are not there: the provider may tell them elsewhere (UserInfo)."""
    wanted = [settings.name_claim]
    wanted += [settings.groups_claim] if settings.roles or settings.groups else []
    wanted += ["email", "email_verified"] if settings.domains or settings.name_claim == "email" else []
    return any(_claim(claims, name) is None for name in wanted)


def _check_domain(claims: Mapping[str, Any], settings: OidcSettings) -> None:
    domains = settings.allowed_domains()
    if not domains and settings.name_claim != "email":
        return
    mail = claims.get("email")
    if not isinstance(mail, str) or not _verified(claims):
        raise ForbiddenError("the provider does not say that it has verified your mail address, which is needed here")
    if domains and mail.rpartition("@")[2].lower() not in domains:
        raise ForbiddenError(f"your mail address is in none of the domains let in: {', '.join(sorted(domains))}")


def _verified(claims: Mapping[str, Any]) -> bool:
    verified = claims.get("email_verified")
    return verified is True or verified == "true"  # some providers write it as text


def _name(claims: Mapping[str, Any], claim: str) -> str:
    name = _claim(claims, claim)
    if not isinstance(name, str):
        raise ForbiddenError(
            f"the provider does not tell your name: there is no text in the claim {claim!r} (the setting "
            "oidc.name_claim; oidc.scopes may lack the scope that brings it)"
        )
    if not re.fullmatch(NAME, name):
        raise ForbiddenError(
            f"{name[:100]!r} cannot be a user's name here: 1 to 64 letters, digits, dots, dashes, underscores or @ "
            f"(it is the claim {claim!r}; the setting oidc.name_claim takes another one)"
        )
    return name


def _groups(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    given = _claim(claims, claim)
    if isinstance(given, str):
        return frozenset({given})
    return frozenset(group for group in given if isinstance(group, str)) if isinstance(given, list) else frozenset()


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its name, or by a path through claims within claims; None where it is not there."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
