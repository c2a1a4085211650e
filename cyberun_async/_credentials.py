"""
API keys: which family, which headers, and how they stay out of sight.

A key lives in a :class:`Secret`, whose ``repr`` and ``str`` say nothing, so that no log
line, traceback with locals or debugger view of an exception prints it.
"""

import enum
import inspect
from collections.abc import Awaitable, Callable, Mapping

from ._errors import ConfigurationError, CyberunError, ServiceUnavailableError


KeyProvider = Callable[[], str | Awaitable[str]]


class CredentialKind(enum.Enum):
    """The families of credentials the REST interface accepts."""

    JWT = "JWT"
    INTEGRATION = "sk-"
    DEVICE = "dk-"


class Secret(str):
    """Text that is sent, and shown nowhere."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<secret>"

    def __str__(self) -> str:
        return "<secret>"

    def __format__(self, _: str) -> str:
        return "<secret>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a credential cannot be pickled")

    def reveal(self) -> str:
        """Return the text itself, for the header only."""
        return "".join(self)


def kind_of(key: str) -> CredentialKind:
    """
    Return the family of *key*.

    Raises:
        ConfigurationError: The key is of no accepted family; its text is not repeated.
    """
    if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError("the API key, or what its callable returns, must be a string")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            "the API key is empty or holds blanks, control or non-ASCII characters; "
            "copy it again from the dashboard"
        )
    if key.startswith("ak-"):
        raise ConfigurationError(
            "an agent key (ak-...) only connects GPU agents and cannot submit or read tasks; "
            "use an integration key (sk-...) or a device key (dk-...)"
        )
    if key.startswith("sk-"):
        return CredentialKind.INTEGRATION
    if key.startswith("dk-"):
        return CredentialKind.DEVICE
    if key.startswith("eyJ"):
        return CredentialKind.JWT
    raise ConfigurationError(
        "the API key is of an unknown kind; expected one that begins with sk- or dk-, "
        "or a user token (JWT, begins with eyJ)"
    )


def headers_for(key: Secret, team_id: str | None) -> Mapping[str, str]:
    """
    Return the headers that authenticate a request.

    ``X-Team-ID`` goes with user tokens only, which need it; other keys are bound to a team.
    """
    headers = {"Authorization": Secret("Bearer " + key.reveal())}
    if kind_of(key.reveal()) is CredentialKind.JWT:
        if not team_id:
            raise ConfigurationError(
                "a user token (JWT) needs team_id=..., since it is not bound to one team"
            )
        headers["X-Team-ID"] = Secret(team_id)
    return headers


class Keyring:
    """Where the key comes from: a fixed text, or a callable that is asked before each use."""

    def __init__(self, api_key: str | KeyProvider, team_id: str | None) -> None:
        self._source = api_key if callable(api_key) else Secret(api_key)
        self._team_id = team_id
        if isinstance(self._source, Secret):
            headers_for(self._source, team_id)

    def __repr__(self) -> str:
        return "<Keyring>"

    @property
    def can_refresh(self) -> bool:
        """Whether a refused key may be replaced by a newer one."""
        return not isinstance(self._source, Secret)

    async def current(self) -> Secret:
        """Return the key to use now, asking the provider where there is one."""
        if isinstance(self._source, Secret):
            return self._source
        try:
            answer = self._source()
            key = await answer if inspect.isawaitable(answer) else answer
        except CyberunError:
            raise
        except Exception as error:
            raise ServiceUnavailableError(
                f"the api_key callable failed with {type(error).__name__}"
            ) from error
        kind_of(key)
        return Secret(key)

    def headers(self, key: Secret) -> Mapping[str, str]:
        """Return the headers for *key*."""
        return headers_for(key, self._team_id)
