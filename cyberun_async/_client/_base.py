"""What a client is before it follows anything: its settings, its life, and plain requests."""

import copy
import os
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from .._http import HttpClient, KeyProvider, TransportFactory, TransportSettings, kind_of
from .._model import (
    ClientStateError,
    ClientStatistics,
    Limits,
    Notice,
    Observer,
    RetryPolicy,
    Timeouts,
    WatchPolicy,
    observer_of,
)
from .._protocol import Response, without_locals
from .._transfer import Files, Store
from .._validation import json_of, method_of, positive_seconds, query_of, raw_path_of
from .lifetime import Core
from .resources import Agents, Workflows
from .session import Session
from .settings import ClientSettings, changed, keyring_of, own_agent, service_of, tenant_of
from .webhooks import Webhooks


class BaseClient:
    """A client's settings, described where it is public, its life, and requests of the API."""

    def __init__(
        self,
        api_key: str | KeyProvider | None = None,
        *,
        team_id: str | None = None,
        base_url: str | None = None,
        # How watches and requests behave
        watch_policy: WatchPolicy | None = None,
        retries: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        # The network
        proxy: str | None = None,
        verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
        transport: Literal["httpx", "aiohttp"] = "httpx",
        transport_factory: TransportFactory | None = None,
        http_client: HttpClient | None = None,
        user_agent: str | None = None,
        headers: Mapping[str, str] | None = None,
        # Who is told
        on_notice: Callable[[Notice], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        with without_locals():
            try:
                keyring = keyring_of(api_key, team_id)
                settings = TransportSettings(
                    base_url=service_of(base_url),
                    limits=limits or Limits(),
                    proxy=proxy,
                    verify=verify,
                    kind=kind_of(transport),
                    transport_factory=transport_factory,
                    http_client=http_client,
                )
                choices = changed(
                    ClientSettings(
                        keyring=keyring, watch_policy=WatchPolicy(), user_agent=own_agent()
                    ),
                    own_agent=own_agent(),
                    watch_policy=watch_policy,
                    retries=retries,
                    timeouts=timeouts,
                    user_agent=user_agent,
                    headers=headers,
                    on_notice=on_notice,
                )
                self._session = Session(Core(settings, observer_of(observer)), choices)
            except Exception:
                # The variables of this frame, too, are shown by error reporters.
                api_key = team_id = base_url = proxy = headers = None
                raise

    def __repr__(self) -> str:
        session: Session | None = getattr(self, "_session", None)
        if session is None:
            return "<CyberunClient not made>"
        return f"<CyberunClient {session.core.settings.base_url} {session.core.state}>"

    # Lifetime

    async def __aenter__(self) -> Self:
        self._check_owner("opened")
        with without_locals():
            await self._session.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self, *, drain: float | None = None) -> None:
        """
        End every watch, then close every connection. Closing again does nothing.

        Cancelled while it drains, the client stays open and is to be closed again;
        cancelled after that, everything is closed all the same.

        Args:
            drain:
                Seconds to let the tasks being followed end by themselves first, and
                what waits for them take its answer.

        Raises:
            ClientStateError: On trio, from another task than the one that opened it; or
                of a sibling, which is closed with the client it came from.
        """
        self._check_owner("closed")
        await self._session.core.aclose(None if drain is None else positive_seconds("drain", drain))

    def _check_owner(self, what: str) -> None:
        if self._session.is_sibling:
            raise ClientStateError(
                f"a client made by with_options() is {what} with the one it came from; "
                "use it as it is, inside that one's `async with`"
            )

    def with_options(
        self,
        *,
        api_key: str | KeyProvider | None = None,
        team_id: str | None = None,
        watch_policy: WatchPolicy | None = None,
        retries: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        user_agent: str | None = None,
        headers: Mapping[str, str] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> Self:
        """
        Return a sibling: this client with other settings, on the same connections.

        Connections, ``max_streams``, ``max_connections``, ``poll_rate`` and the observer
        are those of the client it came from. It is usable while that one is open, and is
        neither opened nor closed itself. It costs little, so one per call is fine.

        With another key or team it acts for another tenant, which has a retry quota and
        statistics of its own and shares the limits fairly: no tenant starves another.
        Siblings with the same key and team are one tenant, for as long as any of them,
        or a handle or watch of theirs, is in use. The key is the same if the text is, or
        if the callable is.

        Siblings of one tenant whose other settings are equal, too, share the streams of
        their watches; with others, a task that both watch has a stream for each.

        Args:
            api_key: In place of the client's: a text or a callable, as the client takes it.
            team_id: In place of the client's; sent with user tokens only.
            watch_policy, retries, timeouts: In place of the client's; None keeps them.
            user_agent: In place of what the client puts in front of the library's own.
            headers: Added to the client's; one of the same name is replaced.
            on_notice: In place of the client's; it hears of the sibling's watches alone.

        Raises:
            ConfigurationError: A setting is of another kind, or the key cannot be one.
            InvalidInputError: A header cannot be sent.
        """
        with without_locals():
            try:
                choices = changed(
                    self._session.choices,
                    own_agent=own_agent(),
                    keyring=tenant_of(self._session.choices.keyring, api_key, team_id),
                    watch_policy=watch_policy,
                    retries=retries,
                    timeouts=timeouts,
                    user_agent=user_agent,
                    headers=headers,
                    on_notice=on_notice,
                )
            except Exception:
                api_key = team_id = headers = None
                raise
        sibling = copy.copy(self)
        vars(sibling)["_session"] = self._session.sibling(choices)
        return sibling

    def check_open(self) -> None:
        """
        Raise unless the client can be used here and now.

        Raises:
            ClientStateError: It is not open, or belongs to another event loop.
        """
        self._session.check_open()

    # What the service holds

    @property
    def workflows(self) -> Workflows:
        """The team's workflows."""
        return Workflows(self._session.ask)

    @property
    def agents(self) -> Agents:
        """The GPU agents that are connected."""
        return Agents(self._session.ask)

    @property
    def files(self) -> Files:
        """Files for the inputs of runs."""
        session = self._session
        store = Store(session.ask, session.put)
        return Files(store, limits=self._limits, retries=session.choices.retries)

    @property
    def webhooks(self) -> Webhooks:
        """The team's webhooks."""
        base_url = self._session.core.settings.base_url
        return Webhooks(self._session.ask, allow_http=base_url.startswith("http://"))

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
    ) -> Response:
        """
        Make a request of the API that is not wrapped yet, with the same keys, retries and errors.

        Cancelled while the answer is awaited, what was asked for may have been done.

        Args:
            method: GET and HEAD are repeated on failure, others are not.
            path: Relative to the base URL, such as ``/r/containers``, already quoted.
            params: The query.
            json: The body.

        Raises:
            RequestRejectedError: The service refused it.
            ServiceUnavailableError: It could not be reached or kept failing.
            InvalidInputError: An argument is malformed, or the path leads elsewhere.
        """
        verb = method_of(method)
        return await self._session.ask(
            verb,
            raw_path_of(path),
            params=None if params is None else query_of(params),
            json_body=json_of(json),
            repeatable=verb in ("GET", "HEAD"),
        )

    def statistics(self) -> ClientStatistics:
        """
        Return what is being done now and was done so far with this key and team.

        Siblings with the same key and team are included; those of other tenants are not.

        Raises:
            ClientStateError: The client is not open, or belongs to another event loop.
        """
        return self._session.statistics()

    @property
    def _limits(self) -> Limits:
        return self._session.core.settings.limits
