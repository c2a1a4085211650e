"""
What is open behind a client, and what of it siblings share.

A client and its siblings have one :class:`Core`: one network, one set of stream slots,
one rate. Those with the same key and team are one :class:`Tenant`, with one quota of
retries and one set of statistics. Each has a :class:`Session`, its own way to all that.
Sessions whose settings are equal share their watches, too.
"""

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from .._following import EventBuffer, Follower, Followers, ResultReading
from .._http import Caller, ForeignResponse, sealed
from .._model import (
    ClientStatistics,
    CyberunError,
    Limits,
    RawResult,
    ResultExpiredError,
    ResumeToken,
    TaskNotFoundError,
    TaskSnapshot,
    TaskStatus,
    TransferError,
)
from .._protocol import decode_result, decode_task, without_locals
from .._runtime import Runtime
from .._transfer import Files, allows_http, may_fetch
from .._validation import path_for
from .background import Errand
from .lifetime import Core, Opened, Tenant
from .settings import ClientSettings


T = TypeVar("T")


class Session:
    """One client's way to what is open: with its own settings, or a sibling's."""

    def __init__(self, core: Core, settings: ClientSettings, *, is_sibling: bool = False) -> None:
        self.core = core
        self.settings = settings
        self.is_sibling = is_sibling
        self._followers: Followers | None = None
        # Kept for as long as this is, whatever becomes of its siblings.
        self._tenant: Tenant | None = None

    async def open(self) -> None:
        """Make ready what it shares with its siblings."""
        await self.core.open()
        self._tenant = self.core.use().tenant(self.settings)

    def sibling(self, settings: ClientSettings) -> "Session":
        """Return a session of the same core."""
        sibling = Session(self.core, settings, is_sibling=True)
        opened = self.core.opened
        if opened is not None and settings.keyring == self.settings.keyring:
            sibling._tenant = self._tenant = opened.tenant(settings)
        return sibling

    @property
    def tenant(self) -> Tenant:
        """Whose requests and watches they are."""
        tenant = self._tenant
        if tenant is None:
            tenant = self._tenant = self.core.use().tenant(self.settings)
        return tenant

    @property
    def opened(self) -> Opened:
        """What is open, if it may be used here and now."""
        self.check_open()
        return self.core.use()

    @property
    def followers(self) -> Followers:
        """The followers with these settings, if they may be used here and now."""
        self.core.use()
        followers = self._followers
        if followers is None:
            _ = self.tenant
            followers = self._followers = self.core.followers_for(self.settings)
        followers.check_open()
        return followers

    @property
    def caller(self) -> Caller:
        """What makes requests of the API, if they may be made here and now."""
        return self.followers.caller

    @property
    def limits(self) -> Limits:
        """What may grow, and how far."""
        return self.core.settings.limits

    @property
    def files(self) -> Files:
        """What sends files, with these settings."""
        return Files(self, limits=self.limits, retries=self.settings.retries)

    # What streams and results need.

    def check_open(self) -> None:
        """
        Raise unless the client may be used here and now.

        Raises:
            ClientStateError: It is not open, or not on this event loop.
        """
        _ = self.followers

    def home(self) -> Runtime:
        """
        Return the loop this belongs to, and who owns its tasks.

        Raises:
            ClientStateError: The client is not open, or not on this event loop.
        """
        return self.opened.runtime

    def subscribe(self, token: ResumeToken, reader: EventBuffer) -> Follower:
        """Attach *reader* to the task's follower."""
        return self.followers.subscribe(token, reader)

    async def unsubscribe(self, follower: Follower, reader: EventBuffer) -> None:
        """Detach it, and give the connection back."""
        if self.core.opened is not None and self._followers is not None:
            await self._followers.unsubscribe(follower, reader)

    async def request_cancel(self, task_id: str) -> bool:
        """Ask the service to cancel; False where the client is closed."""
        if self.core.opened is None or self._followers is None:
            return False
        return await self._followers.requests.try_to_cancel(task_id)

    async def cancel_task(self, task_id: str) -> None:
        """Ask the service to cancel the task, trying again where that fails."""
        await self.followers.requests.cancel(task_id)

    async def get_task(self, task_id: str) -> TaskSnapshot:
        """Ask for a task's present state."""
        return decode_task(await self.caller.call("GET", path_for("tasks", task_id), task=True))

    async def raw_result(self, task_id: str, *, is_completed: bool = False) -> RawResult:
        """
        Ask for a task's result as the service reports it.

        Args:
            task_id: The task.
            is_completed: Whether it is known to have completed: the result is then read until
                it is there. If not, and there is none, that is looked up, since only the
                result of a completed task has expired.
        """
        if is_completed:
            return await self.reading_of(task_id).read()
        try:
            return await self._ask_for_result(task_id)
        except TaskNotFoundError as error:
            if error.from_service and await self._has_completed(task_id):
                raise ResultExpiredError.after(error) from error
            raise

    def reading_of(self, task_id: str) -> ResultReading:
        """Return what reads the result of a task that is known to have completed."""
        return ResultReading(partial(self._ask_for_result, task_id), self.settings.watch_policy)

    async def _ask_for_result(self, task_id: str) -> RawResult:
        path = path_for("tasks", task_id, "result")
        return decode_result(await self.caller.call("GET", path, task=True))

    async def _has_completed(self, task_id: str) -> bool:
        try:
            return (await self.get_task(task_id)).status == TaskStatus.COMPLETED
        except CyberunError:
            return False

    async def within(
        self, seconds: float | None, work: Callable[[], Awaitable[T]]
    ) -> tuple[T] | None:
        """Return what *work* returns, or None on time if that takes more than *seconds*."""
        if seconds is None:
            return (await work(),)
        errand = Errand(work)
        self.opened.runtime.spawn(errand.run)
        outcome = await errand.outcome(seconds)
        if outcome is None:
            errand.stop()
        return outcome

    async def transfer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: AsyncIterable[bytes] | None = None,
    ) -> ForeignResponse:
        """Fetch a file from a presigned address, or send it there, without any credential."""
        url = sealed(url)
        opened = self.opened
        if not self._may_fetch(url):
            what = "it is not followed" if content is None else "nothing was sent to it"
            raise TransferError(f"the service gave a link that is not https; {what}")
        with without_locals():
            return await opened.transport.fetch(
                method,
                sealed(url).reveal(),
                headers=headers,
                content=content,
                may_follow=self._may_fetch if content is None else None,
                timeouts=self.settings.timeouts,
                usage=self.tenant.account.usage,
            )

    def _may_fetch(self, url: str) -> bool:
        return may_fetch(url, insecure=allows_http(self.core.settings.base_url))

    def statistics(self) -> ClientStatistics:
        """Return what is done now and was done so far with the same key, by all siblings."""
        opened, tenant = self.opened, self.tenant
        economy, account = tenant.economy, tenant.account
        counters, followers = economy.counters, opened.followers_of(tenant)
        polling = [each.polling() for each in followers]
        return ClientStatistics(
            transport=self.core.settings.kind,
            open_streams=economy.usage.open_streams,
            open_transfers=economy.usage.open_transfers,
            followed_tasks=sum(len(each.by_task) for each in followers),
            stream_slots=self.core.settings.limits.max_streams,
            polled_tasks=sum(each.tasks for each in polling),
            poll_interval=max(each.interval for each in polling),
            poll_interval_waiting=max(each.interval_waiting for each in polling),
            requests=economy.usage.requests,
            retries=account.retries,
            status_checks=economy.pace.status_checks,
            list_pages=economy.pace.pages,
            events=counters.events,
            dropped_progress=counters.dropped_progress
            + sum(each.dropped_progress_now for each in followers),
            reconnects=counters.reconnects,
            switches_to_polling=counters.switches_to_polling,
            repeats_dropped=counters.repeats_dropped,
            foreign_frames=counters.foreign_frames,
            garbled_payloads=counters.garbled_payloads,
        )
