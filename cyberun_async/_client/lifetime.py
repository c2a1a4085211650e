"""What an open client owns, from opening to closing."""

from collections.abc import Iterator
from contextvars import copy_context
from weakref import WeakValueDictionary

import anyio
import attrs

from .._following import Economy, Faults, Follower, Followers, Notifier, RateLimit, StreamSlots
from .._http import Account, Caller, Rate, Transport, TransportSettings, prepared
from .._model import ClientClosedError, ClientStateError, ConfigurationError, Observer
from .._runtime import Runtime, draw
from .settings import ClientSettings, suspicion_of


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
        """Wait until no such call is in flight."""
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
        # Followers that nobody uses and that follow nothing may go, and so may a tenant.
        self.followers: WeakValueDictionary[ClientSettings, Followers] = WeakValueDictionary()
        self._tenants: WeakValueDictionary[object, Tenant] = WeakValueDictionary()
        self.is_closing: bool = False
        self.calls: Calls = Calls()

    def tenant(self, settings: ClientSettings) -> Tenant:
        """Return the tenant with this key, whose quota is that of who comes first."""
        tenant = self._tenants.get(settings.keyring)
        if tenant is None:
            tenant = self._tenants[settings.keyring] = self._new_tenant(settings)
        return tenant

    def _new_tenant(self, settings: ClientSettings) -> Tenant:
        account = Account(settings.keyring, settings.retries, self._context)
        limits, now, usage = self._limits, self.runtime.now, account.usage
        submissions = None
        if limits.submit_rate is not None:
            submissions = RateLimit(now, limits.submit_rate, self._submit_rate, usage)
        economy = Economy(
            slots=self._slots,
            pace=RateLimit(now, limits.poll_rate, self._rate, usage),
            usage=usage,
            submissions=submissions,
            connections=limits.max_connections,
        )
        return Tenant(account=account, economy=economy)

    def followers_of(self, tenant: Tenant) -> list[Followers]:
        """Return the followers that follow tasks of *tenant*."""
        return [each for each in tuple(self.followers.values()) if each.economy is tenant.economy]

    @property
    def followed(self) -> Iterator[Follower]:
        """All tasks that are followed now."""
        for followers in tuple(self.followers.values()):
            yield from tuple(followers.by_task.values())

    async def drain(self) -> None:
        """Wait until all that is followed has ended, and no call is in flight."""
        for follower in tuple(self.followed):
            await follower.wait_done()
        await self.calls.wait_idle()

    async def aclose(self) -> None:
        """End every watch, then close every connection."""
        # No others, which would be missed here, may be made from now on.
        self.is_closing = True
        for followers in tuple(self.followers.values()):
            followers.close()
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
            Notifier(self._observer, None, self._faults).closed()
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

    def followers_for(self, settings: ClientSettings) -> Followers:
        """Return what all sessions with these settings follow with."""
        opened = self.use()
        followers = opened.followers.get(settings)
        if followers is None:
            followers = opened.followers[settings] = self._new_followers(opened, settings)
        return followers

    def _new_followers(self, opened: Opened, settings: ClientSettings) -> Followers:
        notifier = Notifier(self._observer, settings.on_notice, self._faults)
        tenant = opened.tenant(settings)
        submissions = tenant.economy.submissions
        caller = Caller(
            opened.transport,
            tenant.account,
            policy=settings.retries,
            timeouts=settings.timeouts,
            draw=draw,
            headers=settings.sent_headers(),
            extra=notifier.headers,
            submission_turn=None if submissions is None else submissions.turn,
            suspicion=suspicion_of(self.settings.base_url),
        )
        return Followers(
            runtime=opened.runtime,
            transport=opened.transport,
            caller=caller,
            policy=settings.watch_policy,
            timeouts=settings.timeouts,
            economy=tenant.economy,
            notifier=notifier,
        )
