"""The service around the models: queue, API, dispatcher, runner, local stack and command line."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("vaesvc")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0+unknown"
