"""Reaching for Airflow, which only one session installs."""

from importlib import import_module
from typing import Any


def named(module: str) -> Any:
    """Import what only `nox -s airflow` installs."""
    return import_module(module)
