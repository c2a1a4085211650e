"""The settings in which a client and its siblings may differ."""

import functools
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import attrs

from ._credentials import Keyring, sealed
from ._errors import ConfigurationError
from ._events import Notice
from ._inputs import header_text, is_asynchronous
from ._options import RetryPolicy, Timeouts, WatchPolicy


T = TypeVar("T")

OnNotice = Callable[[Notice], None]

OWN_HEADERS = frozenset({"authorization", "x-team-id", "content-length", "host"})
# They are of one connection, which knows them itself.
HOP_HEADERS = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authorization", "proxy-connection"),
    }
)


@attrs.frozen(kw_only=True)
class Choices:
    """
    How the requests and watches of one client, or of a sibling of it, behave.

    Attributes:
        keyring: Whose requests and watches they are.
        policy: Of its watches.
        retries, timeouts: Of its plain requests.
        user_agent: As it is sent.
        headers: Further ones; lower-case name, name as given, value.
        on_notice: Called with each notice of its watches.
    """

    keyring: Keyring
    policy: WatchPolicy = attrs.field(factory=WatchPolicy)
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


def changed(
    choices: Choices,
    *,
    own_agent: str,
    keyring: Keyring | None = None,
    policy: object = None,
    retries: object = None,
    timeouts: object = None,
    user_agent: object = None,
    headers: object = None,
    on_notice: object = None,
) -> Choices:
    """
    Return *choices* with all that is given in its place; headers are added.

    Raises:
        ConfigurationError: A value is of another kind.
        InvalidInputError: A header cannot be sent.
    """
    return Choices(
        keyring=keyring or choices.keyring,
        policy=_of_kind("policy", policy, WatchPolicy) or choices.policy,
        retries=_of_kind("retries", retries, RetryPolicy) or choices.retries,
        timeouts=_of_kind("timeouts", timeouts, Timeouts) or choices.timeouts,
        user_agent=choices.user_agent if user_agent is None else _agent(user_agent, own_agent),
        headers=choices.headers if headers is None else _added(choices.headers, headers),
        on_notice=choices.on_notice if on_notice is None else _callback(on_notice),
    )


def _of_kind(name: str, value: object, kind: type[T]) -> T | None:
    if value is None or isinstance(value, kind):
        return value
    raise ConfigurationError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def _agent(user_agent: object, own_agent: str) -> str:
    given = header_text("user_agent", user_agent)
    return f"{given} {own_agent}" if given else own_agent


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
    told = cast("OnNotice", on_notice)
    # Choices are compared and hashed, which a callable object need not allow.
    return told if _is_hashable(told) else functools.partial(told)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
