"""
API keys: which family, which headers, and how they stay out of sight.

A key lives in a :class:`Secret`, whose ``repr`` and ``str`` say nothing, so that no log
line, traceback with locals or debugger view of an exception prints it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .._model import ConfigurationError


KeyProvider = Callable[[], str | Awaitable[str]]


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


def sealed(value: Any) -> Any:
    """
    Return *value*, as a :class:`Secret` if it is a text.

    It is put in the place of what a caller gave before anything else is done, so that no
    traceback that shows variables shows it.
    """
    return Secret(value) if isinstance(value, str) and not isinstance(value, Secret) else value


def is_user_token(key: object) -> bool:
    """
    Return whether *key* is a user token (JWT), and not an integration or device key.

    Raises:
        ConfigurationError: The key is of no accepted family; its text is not repeated.
    """
    if not isinstance(key, str):
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
    if key.startswith(("sk-", "dk-", "eyJ")):
        return key.startswith("eyJ")
    raise ConfigurationError(
        "the API key is of an unknown kind; expected one that begins with sk- or dk-, "
        "or a user token (JWT, begins with eyJ)"
    )


class Keyring:
    """
    Where the key comes from: a fixed text, or a callable that is asked before each use.

    Two are equal where they are the same tenant: the same text or callable, and the same
    team, as far as it is sent.

    Attributes:
        source: The key itself, or what gives it.
    """

    __slots__ = ("__weakref__", "_identity", "_team_id", "source")

    def __init__(self, api_key: str | KeyProvider, team_id: str | None) -> None:
        self.source: Secret | KeyProvider = api_key if callable(api_key) else sealed(api_key)
        self._team_id = team_id
        source = self.source
        is_sent = not isinstance(source, Secret) or "X-Team-ID" in self.headers(source)
        self._identity = (_identity(source), team_id if is_sent else None)

    def __repr__(self) -> str:
        return "<Keyring>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyring) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def replaced(
        self, api_key: str | KeyProvider | None = None, team_id: str | None = None
    ) -> "Keyring":
        """
        Return one with what is given in its place.

        Raises:
            ConfigurationError: They do not go together.
        """
        if api_key is None and team_id is None:
            return self
        return Keyring(
            self.source if api_key is None else api_key,
            self._team_id if team_id is None else team_id,
        )

    @property
    def can_refresh(self) -> bool:
        """Whether a refused key may be replaced by a newer one."""
        return not isinstance(self.source, Secret)

    def headers(self, key: Secret) -> Mapping[str, str]:
        """
        Return the headers that authenticate a request with *key*.

        ``X-Team-ID`` goes with user tokens only, which need it; other keys are bound to a team.
        """
        headers: dict[str, str] = {"Authorization": Secret("Bearer " + key.reveal())}
        if is_user_token(key):
            if not self._team_id:
                raise ConfigurationError(
                    "a user token (JWT) needs team_id=..., since it is not bound to one team"
                )
            headers["X-Team-ID"] = Secret(self._team_id)
        return headers


def _identity(source: Secret | KeyProvider) -> object:
    # Two bound methods of one object are equal; what cannot be hashed is only itself.
    try:
        hash(source)
    except TypeError:
        return id(source)
    return source
