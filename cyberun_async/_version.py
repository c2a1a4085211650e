"""The version, which stands in the packaging metadata and nowhere else."""

from importlib import metadata


def _installed() -> str:
    try:
        return metadata.version("cyberun_async")
    except metadata.PackageNotFoundError:
        return "0+unknown"


# Read while the package is imported, since afterwards it would be read on the event loop.
_VERSION = _installed()


def version() -> str:
    """Return the installed version, or ``0+unknown`` for a source tree that is not installed."""
    return _VERSION
