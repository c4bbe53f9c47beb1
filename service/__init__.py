"""The service around the models: queue, API, dispatcher, runner, local stack and command line."""

__version__: str


def __getattr__(name: str) -> str:
    """Return `__version__` when it is asked for: reading installed packages costs a tenth of `vaesvc --help`."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("vaesvc")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0.0.0+unknown"


def _refuse_shadows() -> None:
    """Raise ImportError where another package stands in front of one that belongs here: an import from it would fail
    somewhere, without a word about why."""
    from importlib.util import find_spec
    from pathlib import Path

    places: list[str | None]
    beside = Path(__file__).resolve().parent.parent
    for name in ("tuning", "vae_models"):
        module = find_spec(name)
        places = list(module.submodule_search_locations or ()) or [module.origin] if module is not None else []
        if places and beside / name not in [Path(str(place)).resolve() for place in places]:
            raise ImportError(
                f"{places[0]} stands in front of vaesvc's own package {name} ({beside / name}): rename it, or take its "
                "folder off PYTHONPATH or sys.path. The command `vaesvc` passes over it"
            )


_refuse_shadows()
