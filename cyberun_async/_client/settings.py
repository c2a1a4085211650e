"""The settings of a client: given, read from the environment, or changed for a sibling."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, TypedDict, TypeVar, cast
from urllib.parse import urlsplit

import attrs

from .._http import KeyProvider, Keyring, sealed
from .._model import ConfigurationError, Notice, RetryPolicy, Timeouts, WatchPolicy, is_asynchronous
from .._validation import HOP_HEADERS, OWN_HEADERS, base_url_of, header_text
from .._version import version


T = TypeVar("T")

OnNotice = Callable[[Notice], None]


@attrs.frozen(kw_only=True)
class ClientSettings:
    """
    How the requests and watches of one client, or of a sibling of it, behave.

    Attributes:
        keyring: Whose requests and watches they are.
        watch_policy: Of its watches.
        retries, timeouts: Of its plain requests.
        user_agent: As it is sent.
        headers: Further ones; lower-case name, name as given, value.
        on_notice: Called with each notice of its watches.
    """

    keyring: Keyring
    watch_policy: WatchPolicy = attrs.field(factory=WatchPolicy)
    retries: RetryPolicy = attrs.field(factory=RetryPolicy)
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    user_agent: str = ""
    headers: tuple[tuple[str, str, str], ...] = attrs.field(default=(), repr=False)
    on_notice: OnNotice | None = attrs.field(default=None, repr=False)

    def sent_headers(self) -> dict[str, str]:
        """Return the headers that go with every request."""
        # A header of a gateway's may be a credential.
        named = {name: sealed(value) for _, name, value in self.headers}
        return {"User-Agent": self.user_agent, "Accept": "application/json", **named}


class ClientOptions(TypedDict, total=False):
    """What a client and each sibling may be given; None leaves it as it is."""

    team_id: str | None
    watch_policy: WatchPolicy | None
    retries: RetryPolicy | None
    timeouts: Timeouts | None
    user_agent: str | None
    headers: Mapping[str, str] | None
    on_notice: OnNotice | None


def changed(
    settings: ClientSettings | None, api_key: str | KeyProvider | None, given: ClientOptions
) -> ClientSettings:
    """
    Return *settings*, or those of a new client, with all that is given in its place.

    Headers are added.

    Raises:
        ConfigurationError: A value is of another kind, or there is no key.
        InvalidInputError: A header cannot be sent.
    """
    if unknown := set(given) - set(ClientOptions.__annotations__):
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
    team_id = given.get("team_id")
    if settings is None:
        keyring = Keyring(_key_or_environment(api_key), _team(team_id))
        settings = ClientSettings(keyring=keyring, user_agent=_agent(None))
    else:
        key = None if api_key is None else _key_or_environment(api_key)
        keyring = settings.keyring.replaced(key, _team(team_id))
    changes: dict[str, Any] = {
        "keyring": keyring,
        "watch_policy": _of_kind("watch_policy", given.get("watch_policy"), WatchPolicy),
        "retries": _of_kind("retries", given.get("retries"), RetryPolicy),
        "timeouts": _of_kind("timeouts", given.get("timeouts"), Timeouts),
    }
    for name, check in (("user_agent", _agent), ("on_notice", _callback)):
        value = given.get(name)
        changes[name] = None if value is None else check(value)
    if (headers := given.get("headers")) is not None:
        changes["headers"] = _added(settings.headers, headers)
    return attrs.evolve(
        settings, **{name: value for name, value in changes.items() if value is not None}
    )


def _of_kind(name: str, value: object, kind: type[T]) -> T | None:
    if value is None or isinstance(value, kind):
        return value
    raise ConfigurationError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def _agent(user_agent: object) -> str:
    own = f"cyberun_async/{version()}"
    given = "" if user_agent is None else header_text("user_agent", user_agent)
    return f"{given} {own}" if given else own


def _added(
    present: tuple[tuple[str, str, str], ...], headers: object
) -> tuple[tuple[str, str, str], ...]:
    if not isinstance(headers, Mapping):
        kind = type(headers).__name__
        raise ConfigurationError(f"headers must be a mapping of names to values, not {kind}")
    named = {lower: (lower, name, value) for lower, name, value in present}
    for name, value in cast("Mapping[object, object]", headers).items():
        text = header_text(name, value)
        lower = str(name).lower()
        if lower in OWN_HEADERS | HOP_HEADERS:
            raise ConfigurationError(f"the header {lower} is set by the library itself")
        named[lower] = (lower, str(name), text)
    return tuple(named.values())


def _callback(on_notice: object) -> OnNotice:
    if not callable(on_notice):
        kind = type(on_notice).__name__
        raise ConfigurationError(f"on_notice must be callable with a Notice, not {kind}")
    if is_asynchronous(on_notice):
        raise ConfigurationError("on_notice is asynchronous, and nobody awaits it; use `def`")
    callback = cast("OnNotice", on_notice)
    try:
        # ClientSettings are compared and hashed, which a callable object need not allow.
        hash(callback)
    except TypeError:
        return functools.partial(callback)
    return callback


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


def _team(team_id: str | None) -> str | None:
    return None if team_id is None else header_text("team_id", team_id)


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
