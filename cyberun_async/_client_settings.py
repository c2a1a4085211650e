"""A client's settings where none are given: from the environment, or the library's own."""

import os
from urllib.parse import urlsplit

from ._credentials import KeyProvider, Keyring
from ._errors import ConfigurationError
from ._inputs import base_url_of, header_text
from ._version import version


_API_PATH = "/api/v1"
DEFAULT_BASE_URL = "https://core.cyberun.cloud/api/v1"


def service_of(base_url: str | None) -> str:
    """
    Return where the service is, without a slash at the end.

    Raises:
        ConfigurationError: It is no address of a service.
    """
    return base_url_of(base_url or os.environ.get("CYBERUN_BASE_URL") or DEFAULT_BASE_URL)


def suspicion_of(base_url: str) -> str | None:
    """Return what may be wrong with the base URL where everything is 404, or None."""
    if urlsplit(base_url).path.endswith(_API_PATH):
        return None
    return (
        f"every answer so far was 404, and the base URL {base_url} does not end in {_API_PATH};"
        f" it may have to be {base_url}{_API_PATH}"
    )


def keyring_of(api_key: str | KeyProvider | None, team_id: str | None) -> Keyring:
    """
    Return what credentials are taken from.

    Raises:
        ConfigurationError: There is no key, or it or the team cannot be one.
    """
    return Keyring(_key_or_environment(api_key), _team(team_id))


def tenant_of(keyring: Keyring, api_key: str | KeyProvider | None, team_id: str | None) -> Keyring:
    """
    Return *keyring* with what is given in its place.

    Raises:
        ConfigurationError: The key or the team cannot be one.
    """
    key = None if api_key is None else _key_or_environment(api_key)
    return keyring.replaced(key, _team(team_id))


def _team(team_id: str | None) -> str | None:
    return None if team_id is None else header_text("team_id", team_id)


def own_agent() -> str:
    """Return what the library calls itself."""
    return f"cyberun_async/{version()}"


def _key_or_environment(api_key: str | KeyProvider | None) -> str | KeyProvider:
    if api_key is None:
        api_key = os.environ.get("CYBERUN_API_KEY") or os.environ.get("CYBERUN_KEY")
    if api_key is None:
        raise ConfigurationError(
            "no API key: pass api_key=... or set CYBERUN_API_KEY in the environment"
        )
    if not isinstance(api_key, str) and not callable(api_key):
        kind = type(api_key).__name__
        raise ConfigurationError(f"api_key must be a string or a callable, not {kind}")
    return api_key
