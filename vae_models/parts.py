"""The registry of everything that varies: a seam, and the parts that fit it by their kind.

A *seam* is a place where parts are exchanged: "likelihood", "prior", "job-kind". A *part* is what is written there in a
specification: mostly a pydantic class whose `kind` is its name, torch-free to import, which builds the mathematics when
asked. The package's own parts and those of installed packages come in the same way: each is the value of a name in a
module. A package names its parts in its metadata:

    [project.entry-points."vaesvc.parts"]
    "likelihood.student-t" = "my_package.specs:StudentTConfig"
    "prior" = "my_package.specs:PRIORS"                      # several: a tuple of them

The entry's name begins with the seam. Everything that lists parts reads them from here: unions of specifications, the
JSON schema, `--set`, "did you mean", the documentation.

A part that cannot be loaded is left out as a whole, together with what came from the same entry, and is kept in
`Seam.broken` with the reason: one broken package must not take the service with it. An error about that kind gives the
reason.
"""

from __future__ import annotations

import difflib
import importlib
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, Union, get_origin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel  # the command line lists kinds of jobs without it

GROUP = "vaesvc.parts"
OURS = "vaesvc"

P = TypeVar("P")
S = TypeVar("S", bound="BaseModel")


class PartError(ValueError):
    """A part that cannot be registered, or that keeps no promise of its seam: which one, of which package, and why."""


class UnknownPart(PartError):  # noqa: N818 - says what is the case
    """There is no part of this kind, or it could not be loaded."""


@dataclass(frozen=True, kw_only=True)
class Registered(Generic[P]):
    """A part, its kind, where it was found ("module:name"), and the package that brought it ("name version")."""

    kind: str
    part: P
    value: str
    package: str


@dataclass(frozen=True, kw_only=True)
class Broken:
    """An entry that could not be loaded, its package, and why: one line."""

    entry: str
    value: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"{self.entry} ({self.value}, of {self.package}): {self.reason}"


class Seam(Generic[P]):
    """One place where parts are exchanged. Its parts are loaded when first asked for, each once.

    name:  as entry points begin with it
    ours:  where the package's own parts are, "module:name" of a part or of several
    check: what is wrong with something that is offered as a part, in words; None: it fits (`spec_of` makes one)
    summary: what is exchanged there, for people
    """

    def __init__(
        self,
        name: str,
        ours: Iterable[str],
        *,
        check: Callable[[Any], str | None] = lambda part: None,
        summary: str = "",
    ) -> None:
        self.name = name
        self.summary = summary
        self._ours = tuple(ours)
        self._check = check
        self._own: Mapping[str, Registered[P]] | None = None
        self._parts: Mapping[str, Registered[P]] | None = None
        self._broken: tuple[Broken, ...] = ()
        self._all: Mapping[str, P] = MappingProxyType({})
        _SEAMS[name] = self

    def all(self) -> Mapping[str, P]:
        """Return every part by its kind: this package's in the order of the code,
        then other packages' by package name.
        """
        self.registered()
        return self._all

    def own(self) -> Mapping[str, P]:
        """Return the package's own parts by their kinds: no entry point is read for them."""
        return MappingProxyType({kind: registered.part for kind, registered in self._ours_registered().items()})

    def kinds(self) -> tuple[str, ...]:
        """Return the names of `all`."""
        return tuple(self.registered())

    @property
    def broken(self) -> tuple[Broken, ...]:
        """Return the entries that could not be loaded."""
        self.registered()
        return self._broken

    def find(self, kind: str) -> P | None:
        """Return the part of this kind, None where there is none.
        Entry points are read only for kinds that are not ours.
        """
        if (own := self._ours_registered().get(kind)) is not None:
            return own.part
        registered = self.registered().get(kind)
        return None if registered is None else registered.part

    def get(self, kind: str) -> P:
        """Return the part of this kind. Raise UnknownPart with the nearest name, all names,
        or why it could not be loaded.
        """
        part = self.find(kind)
        if part is None:
            raise UnknownPart(f"there is no {self.name} {kind!r}{self.hint(kind)}")
        return part

    def hint(self, kind: str) -> str:
        """Return the hint for the unknown `kind`: begins with a semicolon or a colon."""
        if (broken := self.broken_entry(kind)) is not None:
            return f": {broken.value} of {broken.package} could not be loaded: {broken.reason}"
        near = difflib.get_close_matches(kind, self.kinds(), n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        return f"; {meant}There are: {', '.join(self.kinds())}{self.not_loaded()}"

    def not_loaded(self) -> str:
        """Return the parts that could not be loaded, to end a list of parts: begins with a full stop;
        empty if there are none.
        """
        return f". Could not be loaded: {'; '.join(map(str, self.broken))}" if self.broken else ""

    def made(self, kind: str, make: Callable[[P], S]) -> S:
        """Return what `make` makes of the part of this kind.
        Raise PartError that names part and package where it fails.
        """
        part = self.get(kind)
        try:
            return make(part)
        except Exception as error:
            entry = self.registered()[kind]
            if entry.package == OURS:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PartError(f"the {self.name} {kind} ({entry.value}, of {entry.package}) fails: {reason}") from error

    def broken_entry(self, kind: str) -> Broken | None:
        """Return the entry that would have brought this kind, had it been possible to load it."""
        return next((broken for broken in self.broken if broken.entry == f"{self.name}.{kind}"), None)

    def union(self, meant: str | None = None, only: Callable[[P], bool] | None = None) -> Any:
        """Return the type of a field that takes any of the parts, which are pydantic classes, discriminated by `kind`.

        meant: the kind of what is written without one: of seams that once had that kind alone.
        only:  which parts the field lists; it finds the others too, and its model says why it refuses them.

        The package's own are its members. All others are looked up when written (`vae_models.open_union`): so a
        module of specifications is whole before any stranger's is imported, and a package may come onto the path later.
        """
        from pydantic import Field

        from vae_models.open_union import OpenUnion

        listed = self if only is None else Some(self, only)
        specs: tuple[Any, ...] = tuple(part for part in self.own().values() if only is None or only(part))
        more = OpenUnion(specs, listed, meant)  # type: ignore[arg-type]
        if len(specs) == 1:
            return Annotated[specs[0], more]
        return Annotated[Union[specs], Field(discriminator="kind"), more]  # noqa: UP007

    def registered(self) -> Mapping[str, Registered[P]]:
        """Return every part with the place where it was found and its package."""
        if self._parts is None:
            self._parts, self._broken = self._load()
            self._all = MappingProxyType({kind: each.part for kind, each in self._parts.items()})
        return self._parts

    def _ours_registered(self) -> Mapping[str, Registered[P]]:
        """Return this package's own parts; an error in one of them is a programming error, and is raised."""
        if self._own is None:
            parts: dict[str, Registered[P]] = {}
            for value in self._ours:
                parts |= self._fitting(loaded(value), value, OURS, parts)
            self._own = MappingProxyType(parts)
        return self._own

    def _load(self) -> tuple[Mapping[str, Registered[P]], tuple[Broken, ...]]:
        parts = dict(self._ours_registered())
        broken: list[Broken] = []
        for entry in _entries():
            if entry.name != self.name and not entry.name.startswith(f"{self.name}."):
                continue
            package = _package(entry)
            try:
                parts |= self._fitting(_loaded(entry, self.name), entry.value, package, parts)
            except PartError as error:
                broken.append(Broken(entry=entry.name, value=entry.value, package=package, reason=str(error)))
            except Exception as error:  # whatever a stranger's module does when it is imported
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                broken.append(Broken(entry=entry.name, value=entry.value, package=package, reason=reason))
        return MappingProxyType(parts), tuple(broken)

    def _fitting(
        self, given: Any, value: str, package: str, before: Mapping[str, Registered[P]]
    ) -> dict[str, Registered[P]]:
        """Return the parts in `given`, by kind: all or none. Raise PartError for one that does not fit."""
        fitting: dict[str, Registered[P]] = {}
        for part in given if isinstance(given, tuple | list) else (given,):
            kind = kind_of(part)
            if kind is None:
                raise PartError(f"{part!r} has no `kind`: a part says by what name it is written in a specification")
            if (wrong := self._check(part)) is not None:
                raise PartError(f"{self.name} {kind!r}: {wrong}")
            if (other := before.get(kind) or fitting.get(kind)) is not None:
                raise PartError(f"{self.name} {kind!r} is there already: {other.value} of {other.package}")
            fitting[kind] = Registered(kind=kind, part=part, value=value, package=package)
        return fitting


class Some(Generic[P]):
    """A seam as an open union sees it, of which only some parts are listed."""

    def __init__(self, seam: Seam[P], only: Callable[[P], bool]) -> None:
        self._seam, self._only = seam, only

    def find(self, kind: str) -> P | None:
        return self._seam.find(kind)

    def all(self) -> Mapping[str, P]:
        return {kind: part for kind, part in self._seam.all().items() if self._only(part)}

    def broken_entry(self, kind: str) -> Broken | None:
        return self._seam.broken_entry(kind)


_SEAMS: dict[str, Seam[Any]] = {}


def seams() -> Mapping[str, Seam[Any]]:
    """Return every seam that has been declared by the modules imported so far."""
    return MappingProxyType(_SEAMS)


def kind_of(part: Any) -> str | None:
    """Return the name of a part in a specification: the default of its `kind`, else its attribute `kind` or `name`."""
    fields = getattr(part, "model_fields", None)
    if isinstance(fields, Mapping) and "kind" in fields:
        kind = fields["kind"].default
    else:
        kind = getattr(part, "kind", getattr(part, "name", None))
    return kind if isinstance(kind, str) and kind else None


def _loaded(entry: EntryPoint, seam: str) -> Any:
    """Return the part, or parts, that an entry names.
    Raise PartError where its kind is not the one in the entry's name.
    """
    given = entry.load()
    named = entry.name.removeprefix(seam).removeprefix(".")
    if named and kind_of(given) not in (None, named):
        raise PartError(f"{given!r} has the kind {kind_of(given)!r}: name the entry {seam}.{kind_of(given)}")
    return given


def loaded(value: str) -> Any:
    """Return the object that "module:name" names; its module is imported."""
    module, _, name = value.partition(":")
    return operator.attrgetter(name)(importlib.import_module(module))


@cache
def _entries() -> tuple[EntryPoint, ...]:
    """Return the entry points of every installed package, in the order of their names."""
    from importlib.metadata import entry_points  # a tenth of `vaesvc --help`, which needs none

    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: (_package(entry), entry.name)))


def _package(entry: EntryPoint) -> str:
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def declared(part: Any) -> dict[str, Any]:
    """Return what a part declares: the class variables of a specification, a record's fields beside its name."""
    if isinstance(part, type):
        names = [
            name
            for each in reversed(part.__mro__)
            for name, annotation in vars(each).get("__annotations__", {}).items()
            if str(annotation).startswith("ClassVar") and each.__module__.partition(".")[0] != "pydantic"
        ]
        return {name: _plain(getattr(part, name)) for name in dict.fromkeys(names) if name[0] != "_"}
    if is_dataclass(part):
        declarations = {field.name: getattr(part, field.name) for field in fields(part) if field.repr}
        plain = {name: value for name, value in declarations.items() if _is_said(value)}
        return {name: value for name, value in plain.items() if name not in ("kind", "name", "summary")}
    return {}


def summary_of(part: Any) -> str:
    """Return a part's `summary` or `noun`, else the first paragraph of its docstring."""
    text = getattr(part, "summary", None) or getattr(part, "noun", None)  # a kind of job is called something
    if not isinstance(text, str):
        text = (part.__doc__ if isinstance(part, type) or callable(part) else type(part).__doc__) or ""
    return " ".join(text.strip().partition("\n\n")[0].split())


def _is_said(value: Any) -> bool:
    """Return whether a value is worth showing to people: a reference to code ("module:name") is not."""
    return isinstance(value, int | float | bool) or (isinstance(value, str) and not re.match(r"[\w.]+:\w+$", value))


def _plain(value: Any) -> Any:
    """Return the value in JSON's types."""
    if isinstance(value, frozenset | set):
        return sorted(value)
    return list(value) if isinstance(value, tuple) else value


def forget() -> None:
    """Look for entry points again, and load every seam's parts anew: after a package has come onto the path."""
    _entries.cache_clear()
    for seam in _SEAMS.values():
        seam._parts, seam._broken = None, ()


def spec_of(base: type[BaseModel]) -> Callable[[Any], str | None]:
    """Return the check of a seam whose parts are specifications: pydantic classes below `base`, whole and declared.

    A part must define what `base` leaves abstract: its abstract methods, and the class variables without a value.
    """

    def check(part: Any) -> str | None:
        if not isinstance(part, type) or not issubclass(part, base):
            return f"{part!r} is no {base.__name__}: derive it from {base.__module__}.{base.__name__}"
        if missing := sorted(getattr(part, "__abstractmethods__", ())):
            return f"{part.__name__} has no {', no '.join(missing)}, which {base.__name__} leaves to its parts"
        if open_ones := [name for name in _class_variables(base) if not hasattr(part, name)]:
            return f"{part.__name__} does not declare {', '.join(open_ones)}: see {base.__name__}"
        if get_origin(part.model_fields["kind"].annotation) is not Literal:
            return f"{part.__name__}.kind is not fixed: write kind: Literal[{kind_of(part)!r}] = {kind_of(part)!r}"
        if not part.__pydantic_complete__ and part.model_rebuild(raise_errors=False) is not True:
            return f"{part.__name__} has fields of types that are not defined where it is"
        return None

    return check


def found_in(spec: BaseModel, base: type[S], at: str) -> Iterator[tuple[str, S]]:
    """Yield (path, part) for every part of one seam within a specification, such as a topology's likelihoods."""
    from pydantic import BaseModel

    from vae_models.strict import SCALARS

    def within(spec: BaseModel, at: str) -> Iterator[tuple[str, S]]:
        for name, value in spec.__dict__.items():
            if type(value) in SCALARS:
                continue
            several = enumerate(value) if isinstance(value, tuple) else ((None, value),)
            for place, part in several:
                path = f"{at}.{name}" if place is None else f"{at}.{name}.{place}"
                if isinstance(part, base):
                    yield path, part
                elif isinstance(part, BaseModel):
                    yield from within(part, path)

    return within(spec, at)


def _class_variables(base: type[BaseModel]) -> list[str]:
    return [
        name
        for each in base.__mro__
        for name, annotation in vars(each).get("__annotations__", {}).items()
        if str(annotation).startswith("ClassVar") and not hasattr(base, name)
    ]
