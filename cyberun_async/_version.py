"""The version, which stands in the packaging metadata and nowhere else."""

from importlib import metadata


def version() -> str:
    """Return the installed version, or ``0+unknown`` for a source tree that is not installed."""
    try:
        return metadata.version("cyberun_async")
    except metadata.PackageNotFoundError:
        return "0+unknown"
