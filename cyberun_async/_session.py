"""
What is open behind a client, and what of it siblings share.

A client and its siblings have one :class:`Core`: one network, one set of stream slots,
one rate. Those with the same key and team are one :class:`Tenant`, with one quota of
retries and one set of statistics. Each has a :class:`Session`, its own way to all that.
Sessions whose choices are equal share their watches, too.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping
from contextvars import copy_context
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import anyio
import attrs

from ._caller import Account, Caller
from ._choices import Choices
from ._client_settings import suspicion_of
from ._codec import decode_result, decode_task
from ._credentials import sealed
from ._downloads import Download, allows_http, may_fetch
from ._errand import Errand
from ._errors import (
    ClientClosedError,
    ClientStateError,
    ConfigurationError,
    CyberunError,
    ResultExpiredError,
    TaskNotFoundError,
    TransferError,
)
from ._exchange import Reply
from ._fair import Rate
from ._feed import Feed
from ._hub import Economy, Hub
from ._inputs import path_for
from ._models import ResultRecord, ResumeToken, TaskSnapshot, TaskStatus
from ._observer import Observer
from ._pace import Pace
from ._reader import Reader
from ._runtime import Runtime, draw
from ._slots import StreamSlots
from ._statistics import ClientStatistics
from ._told import Faults, Told
from ._tracebacks import without_locals
from ._transport import Transport, TransportSettings, prepared


T = TypeVar("T")


class Calls:
    """The calls that draining lets come to their end; entered by each."""

    # No generator, which would cost each of thousands of waits half a kilobyte.
    __slots__ = ("_idle", "_number")

    def __init__(self) -> None:
        self._number = 0
        self._idle: anyio.Event | None = None

    def __enter__(self) -> None:
        self._number += 1

    def __exit__(self, *_: object) -> None:
        self._number -= 1
        if not self._number and self._idle is not None:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until no such call is under way."""
        if self._number:
            self._idle = anyio.Event()
            await self._idle.wait()


@attrs.frozen(kw_only=True, eq=False)
class Tenant:
    """
    What all with one key and team share; it goes with the last of them.

    Attributes:
        account: The key and the quota of retries.
        economy: What bounds and counts the watches.
    """

    account: Account
    economy: Economy


class Opened:
    """What exists only while a client is open."""

    def __init__(self, runtime: Runtime, settings: TransportSettings) -> None:
        limits = settings.limits
        self.runtime: Runtime = runtime
        self.transport: Transport = Transport(settings, lambda: len(self._tenants) > 1)
        self._limits = limits
        self._slots = StreamSlots(limits.max_streams, limits.reconnect_spread)
        self._rate = Rate(runtime.now, limits.poll_rate)
        submit_rate = limits.submit_rate
        self._submit_rate = None if submit_rate is None else Rate(runtime.now, submit_rate)
        # Where key callables run, whoever's request needs one.
        self._context = copy_context()
        # A hub that nobody uses and that follows nothing may go, and so may a tenant.
        self.hubs: WeakValueDictionary[Choices, Hub] = WeakValueDictionary()
        self._tenants: WeakValueDictionary[object, Tenant] = WeakValueDictionary()
        self.is_closing: bool = False
        self.calls: Calls = Calls()

    def tenant(self, choices: Choices) -> Tenant:
        """Return the tenant with this key, whose quota is that of who comes first."""
        tenant = self._tenants.get(choices.keyring)
        if tenant is None:
            tenant = self._tenants[choices.keyring] = self._new_tenant(choices)
        return tenant

    def _new_tenant(self, choices: Choices) -> Tenant:
        account = Account(choices.keyring, choices.retries, self._context)
        limits, now, usage = self._limits, self.runtime.now, account.usage
        submissions = None
        if limits.submit_rate is not None:
            submissions = Pace(now, limits.submit_rate, self._submit_rate, usage)
        economy = Economy(
            slots=self._slots,
            pace=Pace(now, limits.poll_rate, self._rate, usage),
            usage=usage,
            submissions=submissions,
            connections=limits.max_connections,
        )
        return Tenant(account=account, economy=economy)

    def hubs_of(self, tenant: Tenant) -> list[Hub]:
        """Return the hubs that follow tasks of *tenant*."""
        return [hub for hub in tuple(self.hubs.values()) if hub.economy is tenant.economy]

    @property
    def feeds(self) -> Iterator[Feed]:
        """All tasks that are followed now."""
        for hub in tuple(self.hubs.values()):
            yield from tuple(hub.feeds.values())

    async def drain(self) -> None:
        """Wait until all that is followed has ended, and no call is under way."""
        for feed in tuple(self.feeds):
            await feed.wait_done()
        await self.calls.wait_idle()

    async def aclose(self) -> None:
        """End every watch, then close every connection."""
        # No hub that would be missed here may be made from now on.
        self.is_closing = True
        for hub in tuple(self.hubs.values()):
            hub.close()
        try:
            await self.runtime.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                await self.transport.aclose()


class Core:
    """What a client and its siblings share; opened and closed once."""

    def __init__(self, settings: TransportSettings, observer: Observer | None) -> None:
        self.settings = settings
        self._observer = observer
        self._faults = Faults()
        self.opened: Opened | None = None
        self._was_opened = False

    @property
    def state(self) -> str:
        """In a word, for people."""
        return "open" if self.opened else "closed" if self._was_opened else "not opened"

    async def open(self) -> None:
        """
        Make ready.

        Raises:
            ClientStateError: It was opened before.
        """
        if self._was_opened:
            raise ClientStateError("a client can be opened once; make a new one")
        self._was_opened = True
        runtime = Runtime()
        if self.settings.kind == "aiohttp" and not runtime.is_asyncio:
            raise ConfigurationError(
                "transport='aiohttp' works on asyncio only; leave it out on trio"
            )
        settings = await prepared(attrs.evolve(self.settings, clock=runtime.now))
        opened = Opened(runtime, settings)
        await runtime.open()
        self.opened = opened

    async def aclose(self, drain: float | None) -> None:
        """
        End everything, after up to *drain* seconds in which it may end by itself.

        Raises:
            ClientStateError: On trio, from another task than the one that opened it.
        """
        opened = self.opened
        if opened is None:
            return
        opened.runtime.check_closable()
        if drain is not None:
            with anyio.move_on_after(drain):
                await opened.drain()
        try:
            await opened.aclose()
        finally:
            Told(self._observer, None, self._faults).closed()
        self.opened = None

    def use(self) -> Opened:
        """
        Return what is open.

        Raises:
            ClientStateError: It is not open, or not on this event loop.
        """
        if self.opened is not None and not self.opened.is_closing:
            return self.opened
        if self._was_opened:
            raise ClientClosedError("the client is closed; make a new one")
        raise ClientStateError(
            "the client is not open; use `async with CyberunClient(...) as client:`"
        )

    def hub_for(self, choices: Choices) -> Hub:
        """Return the hub that serves all sessions with these choices."""
        opened = self.use()
        hub = opened.hubs.get(choices)
        if hub is None:
            hub = opened.hubs[choices] = self._new_hub(opened, choices)
        return hub

    def _new_hub(self, opened: Opened, choices: Choices) -> Hub:
        told = Told(self._observer, choices.on_notice, self._faults)
        tenant = opened.tenant(choices)
        submissions = tenant.economy.submissions
        caller = Caller(
            opened.transport,
            tenant.account,
            policy=choices.retries,
            timeouts=choices.timeouts,
            draw=draw,
            headers=choices.sent_headers(),
            extra=told.headers,
            submission_turn=None if submissions is None else submissions.turn,
            suspicion=suspicion_of(self.settings.base_url),
        )
        return Hub(
            runtime=opened.runtime,
            transport=opened.transport,
            caller=caller,
            policy=choices.policy,
            timeouts=choices.timeouts,
            economy=tenant.economy,
            told=told,
        )


class Session:
    """One client's way to what is open: with its own choices, or a sibling's."""

    def __init__(self, core: Core, choices: Choices, *, is_sibling: bool = False) -> None:
        self.core = core
        self.choices = choices
        self.is_sibling = is_sibling
        self._hub: Hub | None = None
        # Kept for as long as this is, whatever becomes of its siblings.
        self._tenant: Tenant | None = None

    async def open(self) -> None:
        """Make ready what it shares with its siblings."""
        await self.core.open()
        self._tenant = self.core.use().tenant(self.choices)

    def sibling(self, choices: Choices) -> "Session":
        """Return a session of the same core."""
        sibling = Session(self.core, choices, is_sibling=True)
        opened = self.core.opened
        if opened is not None and choices.keyring == self.choices.keyring:
            sibling._tenant = self._tenant = opened.tenant(choices)
        return sibling

    @property
    def tenant(self) -> Tenant:
        """Whose requests and watches they are."""
        tenant = self._tenant
        if tenant is None:
            tenant = self._tenant = self.core.use().tenant(self.choices)
        return tenant

    @property
    def opened(self) -> Opened:
        """What is open, if it may be used here and now."""
        self.check_open()
        return self.core.use()

    @property
    def hub(self) -> Hub:
        """The hub of these choices, if it may be used here and now."""
        self.core.use()
        hub = self._hub
        if hub is None:
            _ = self.tenant
            hub = self._hub = self.core.hub_for(self.choices)
        hub.check_open()
        return hub

    # What streams and results need.

    def check_open(self) -> None:
        """
        Raise unless the client may be used here and now.

        Raises:
            ClientStateError: It is not open, or not on this event loop.
        """
        _ = self.hub

    def home(self) -> Runtime:
        """
        Return the loop this belongs to, and who owns its tasks.

        Raises:
            ClientStateError: The client is not open, or not on this event loop.
        """
        return self.opened.runtime

    def subscribe(self, token: ResumeToken, reader: Reader) -> Feed:
        """Attach *reader* to the task's feed."""
        return self.hub.subscribe(token, reader)

    async def unsubscribe(self, feed: Feed, reader: Reader) -> None:
        """Detach it, and give the connection back."""
        if self.core.opened is not None and self._hub is not None:
            await self._hub.unsubscribe(feed, reader)

    async def request_cancel(self, task_id: str) -> bool:
        """As the hub does; False where there is none any more."""
        if self.core.opened is None or self._hub is None:
            return False
        return await self._hub.request_cancel(task_id)

    async def get_task(self, task_id: str) -> TaskSnapshot:
        """Ask for a task's present state."""
        return decode_task(await self.hub.caller.call("GET", path_for("tasks", task_id), task=True))

    async def result_record(self, task_id: str, *, is_completed: bool = False) -> ResultRecord:
        """
        Ask for a task's result as the service reports it.

        Args:
            task_id: The task.
            is_completed: Whether it is known to have completed; if not, and there is no
                result, it is asked for, since only then one has expired.
        """
        path = path_for("tasks", task_id, "result")
        try:
            return decode_result(await self.hub.caller.call("GET", path, task=True))
        except TaskNotFoundError as error:
            if is_completed or await self._has_completed(task_id):
                raise ResultExpiredError.after(error) from error
            raise

    async def _has_completed(self, task_id: str) -> bool:
        try:
            return (await self.get_task(task_id)).status == TaskStatus.COMPLETED
        except CyberunError:
            return False

    # Requests.

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json_body: Any = None,
        repeatable: bool = True,
    ) -> Reply:
        """Make a request of the API."""
        return await self.hub.caller.call(
            method, path, params=params, json_body=json_body, repeatable=repeatable
        )

    async def within(self, seconds: float, work: Callable[[], Awaitable[T]]) -> tuple[T] | None:
        """Return what *work* comes to, or None on time if that takes more than *seconds*."""
        errand = Errand(work)
        self.opened.runtime.spawn(errand.run)
        outcome = await errand.outcome(seconds)
        if outcome is None:
            errand.stop()
        return outcome

    async def fetch(self, url: str, headers: Mapping[str, str]) -> Download:
        """Fetch a presigned link, without any credential."""
        url = sealed(url)
        opened = self.opened
        if not self._may_fetch(url):
            raise TransferError("the service gave a link that is not https; it is not followed")
        with without_locals():
            return await opened.transport.fetch(
                "GET",
                sealed(url).reveal(),
                headers=headers,
                may_follow=self._may_fetch,
                timeouts=self.choices.timeouts,
                usage=self.tenant.account.usage,
            )

    async def put(
        self, url: str, headers: Mapping[str, str], content: AsyncIterable[bytes], /
    ) -> Download:
        """Send a file to a presigned address, without any credential."""
        url = sealed(url)
        opened = self.opened
        if not self._may_fetch(url):
            raise TransferError("the service gave a link that is not https; nothing was sent to it")
        with without_locals():
            return await opened.transport.fetch(
                "PUT",
                sealed(url).reveal(),
                headers=headers,
                content=content,
                timeouts=self.choices.timeouts,
                usage=self.tenant.account.usage,
            )

    def _may_fetch(self, url: str) -> bool:
        return may_fetch(url, insecure=allows_http(self.core.settings.base_url))

    def statistics(self) -> ClientStatistics:
        """Return what is done now and was done so far with the same key, by all siblings."""
        opened, tenant = self.opened, self.tenant
        economy, account = tenant.economy, tenant.account
        counters, hubs = economy.counters, opened.hubs_of(tenant)
        polling = [hub.polling() for hub in hubs]
        return ClientStatistics(
            transport=self.core.settings.kind,
            open_streams=economy.usage.open_streams,
            open_transfers=economy.usage.open_transfers,
            followed_tasks=sum(len(hub.feeds) for hub in hubs),
            stream_slots=self.core.settings.limits.max_streams,
            polled_tasks=sum(each.tasks for each in polling),
            poll_interval=max(each.interval for each in polling),
            poll_interval_waiting=max(each.interval_waiting for each in polling),
            requests=economy.usage.requests,
            retries=account.retries,
            asks=economy.pace.asks,
            list_pages=economy.pace.pages,
            events=counters.events,
            coalesced_ticks=counters.coalesced + sum(hub.coalesced_now for hub in hubs),
            reconnects=counters.reconnects,
            switches_to_polling=counters.switches_to_polling,
            repeats_dropped=counters.repeats_dropped,
            foreign_frames=counters.foreign_frames,
            garbled_payloads=counters.garbled_payloads,
        )
