"""
A pytest plugin that puts httpx2, the maintained fork, in the place of httpx.

``nox -s httpx2`` loads it before anything imports httpx; the fork brings the aliasing. It
says in the first lines what has been put in place, and fails the run if the library's
transports were made with something else after all.
"""

import importlib

import httpx2
import pytest


httpx2.alias_httpx()

TRANSPORTS = ("cyberun_async._http.transport", "cyberun_async.testing._asgi.transport")


def pytest_report_header() -> str:
    """Say which library answers to the name of httpx."""
    found = importlib.import_module("httpx")
    return f"httpx is {found.__name__} {found.__version__}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if it was not over the fork."""
    used = {name: importlib.import_module(name).httpx for name in TRANSPORTS}
    if others := [name for name, module in used.items() if module is not httpx2]:
        message = f"not over httpx2: {', '.join(others)}"
        raise pytest.UsageError(message)
