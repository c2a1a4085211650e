"""
Settings: frozen values with documented defaults, each with its reason.

All durations are seconds as ``float``.
"""

import math
from collections.abc import Mapping
from typing import Any

import attrs

from .errors import ConfigurationError
from .redaction import quoted


# No setting means more than this, and a float holds it.
_LARGEST = 2**63


def _number(attribute: "attrs.Attribute[Any]", value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{attribute.name} must be a number, not {quoted(value)}")
    if attribute.type is int and isinstance(value, float):
        raise ConfigurationError(f"{attribute.name} must be a whole number, not {value}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{attribute.name} must be a finite number, not {value}")
    if isinstance(value, int) and value > _LARGEST:
        raise ConfigurationError(f"{attribute.name} cannot be {quoted(value)}")
    return value


def _positive(_: Any, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not _number(attribute, value) > 0:
        raise ConfigurationError(f"{attribute.name} must be greater than 0, not {quoted(value)}")


def _positive_or_none(_: Any, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if value == math.inf:
        raise ConfigurationError(f"{attribute.name} must be finite; None is without limit")
    if value is not None:
        _positive(_, attribute, value)


def _not_negative(_: Any, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not _number(attribute, value) >= 0:
        raise ConfigurationError(f"{attribute.name} must not be negative, not {quoted(value)}")


@attrs.frozen(kw_only=True)
class WatchPolicy:
    """
    How a watch behaves when the service or the network does not.

    Attributes:
        tries_before_polling:
            Streams lost in a row without a new event before the watch goes on by
            polling. Three, since one loss is a deploy and two a rolling deploy.

        backoff_base, backoff_cap:
            Before reconnect number *n* the pause is drawn evenly from 0 to
            ``min(cap, base * 2**n)`` (full jitter), so that thousands of clients do
            not return in step. Half a second, since most losses are over at once; half a
            minute, which a person still waits for.

        hint_cap:
            ``Retry-After`` and ``retry:`` raise the pause, but no further than this: a
            mistyped header must not stop a watch for a day. After five minutes one more
            request is no burden.

        check_after:
            Seconds without an event before the status is asked beside the open stream.
            Heartbeats prove the socket, not the task. A minute, so
            that an end that was missed is reported soon, and quiet tasks cost little.

        settle_after:
            Seconds after a connection before a status check, where the answer had been sent
            before the stream was open and no event has come since. Five: long enough for
            the stream to show its first event by itself, which makes the check needless.

        idle_timeout:
            Seconds without a single byte before the stream is opened anew. Twice
            *check_after*: no heartbeat is documented, and the status checks cover the task.

        open_timeout:
            Seconds to wait for the headers of a stream: three times what a request may
            take to connect, as a service under load accepts first and answers later.

        stale_grace:
            Seconds a stream has to deliver a change that a status check has already seen. Five
            covers an event that travels behind the answer, by way of a busy service.

        steady_after:
            A stream that lived this long and then ended is not counted as a failure:
            load balancers end idle streams every minute or so, some after 30 s.

        poll_interval: Seconds between status checks while polling; 3, as the service recommends.

        poll_interval_waiting:
            What the interval grows to while a task waits long for a GPU: who has waited
            for minutes does not notice 15 s, and the service has a fifth of the requests.

        climb_base, climb_cap:
            Pause before streaming is tried again from polling: doubles from base to
            cap, with jitter. 15 s, since three streams have just failed; ten minutes,
            so that a network without streams costs twelve tries an hour at most.

        max_outage:
            Seconds of unbroken outage (since a first failure there was no news of the
            task, neither by stream nor by asking) after which the watch raises
            ``WatchLostError``. Half an hour outlasts a deploy that goes wrong; ``None``
            never gives up.

        connect_within:
            The same for a service that was never reached at all: a wrong base URL or
            a missing network is better reported soon. A minute outlasts a restart.

        confirm_after:
            Seconds between two sightings that end a watch: refusals of the status (403 or
            404 in the service's own words, no news of the task in between), or a
            task that is over in a state nobody knows. Five: a replica that lags, or a
            deploy that half works, is over by then, and a wrong id is still reported
            within ten.

        not_found_grace:
            Seconds after a submission during which a 404 is taken for replication lag,
            which is short; a wrong id is still reported within ten.

        output_timeout:
            Seconds within which the output of a completed task is read. Its end is known
            then, and delivered without the output (``output_error`` says why) when the
            time is up. Half a minute covers a result that takes a few tries.

        result_ready_within:
            Seconds for which a result that lags behind the task's state (it still names a
            state that is no end, without output) is read again once the task has completed.

        linger:
            Seconds a stream that several have read stays open after its last reader
            left, for one that comes back at once, as a page that is loaded again does.
    """

    tries_before_polling: int = attrs.field(default=3, validator=_positive)
    backoff_base: float = attrs.field(default=0.5, validator=_positive)
    backoff_cap: float = attrs.field(default=30.0, validator=_positive)
    hint_cap: float = attrs.field(default=300.0, validator=_positive)
    check_after: float = attrs.field(default=60.0, validator=_positive)
    settle_after: float = attrs.field(default=5.0, validator=_positive)
    idle_timeout: float = attrs.field(default=120.0, validator=_positive)
    open_timeout: float = attrs.field(default=30.0, validator=_positive)
    stale_grace: float = attrs.field(default=5.0, validator=_positive)
    steady_after: float = attrs.field(default=30.0, validator=_positive)
    poll_interval: float = attrs.field(default=3.0, validator=_positive)
    poll_interval_waiting: float = attrs.field(default=15.0, validator=_positive)
    climb_base: float = attrs.field(default=15.0, validator=_positive)
    climb_cap: float = attrs.field(default=600.0, validator=_positive)
    max_outage: float | None = attrs.field(default=1800.0, validator=_positive_or_none)
    connect_within: float | None = attrs.field(default=60.0, validator=_positive_or_none)
    confirm_after: float = attrs.field(default=5.0, validator=_positive)
    not_found_grace: float = attrs.field(default=10.0, validator=_not_negative)
    output_timeout: float = attrs.field(default=30.0, validator=_positive)
    result_ready_within: float = attrs.field(default=60.0, validator=_positive)
    linger: float = attrs.field(default=1.0, validator=_not_negative)

    def __getstate__(self) -> dict[str, Any]:
        return attrs.asdict(self, recurse=False)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        # What was pickled before there was a setting has its default.
        for each in attrs.fields(type(self)):
            object.__setattr__(self, each.name, state.get(each.name, each.default))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """
    How plain requests are retried (GETs, cancel, presign; a run only where it is safe).

    Attributes:
        max_attempts:
            Tries in all, the first included. Four take some seconds: who calls still
            waits, and what fails for longer is an outage.
        backoff_base, backoff_cap:
            Full jitter below ``min(cap, base * 2**n)``. Shorter than those of a watch,
            as somebody waits for the answer.
        retry_after_cap:
            A longer ``Retry-After`` is not waited for: the error is raised with it. After
            two minutes the caller knows better what to do.
        quota:
            Tokens of the client-wide retry bucket (as the AWS SDKs' standard mode):
            with *retry_cost* some 35 retries in an outage, then none.
        retry_cost:
            Tokens a retry takes; a success without retry gives one back. So in the long
            run retries add no more than one request to fourteen.
    """

    max_attempts: int = attrs.field(default=4, validator=_positive)
    backoff_base: float = attrs.field(default=0.5, validator=_positive)
    backoff_cap: float = attrs.field(default=8.0, validator=_positive)
    retry_after_cap: float = attrs.field(default=120.0, validator=_not_negative)
    quota: int = attrs.field(default=500, validator=_not_negative)
    retry_cost: int = attrs.field(default=14, validator=_not_negative)


@attrs.frozen(kw_only=True)
class Timeouts:
    """
    Limits of a single request, by phase, in seconds.

    They bound one request, never a whole wait; the silence of a stream is
    :attr:`WatchPolicy.idle_timeout`.

    Attributes:
        total:
            One whole plain request, from the connection it is given to the last byte of
            its answer; each try again has as long. It bounds what a peer that sends a byte
            now and then would draw out forever. Twice *read*. Of an upload or download it
            bounds the time from the last byte sent to the headers of the answer.
        cancel:
            The request that ``cancel_on_timeout`` and ``cancel_on_exit`` make, tries again
            included. Its caller is on the way out and waits so much longer at most.
        connect: A connection that takes longer than 10 s is lost packets, not distance.
        read, write:
            Between two pieces of an answer or of what is sent: half a minute of nothing
            is taken for a dead peer; no answer of the service needs so long.
        pool:
            For a connection of an ``http_client`` of your own. The client's own requests
            wait for their turn without limit, and are never refused for it.
    """

    connect: float = attrs.field(default=10.0, validator=_positive)
    read: float = attrs.field(default=30.0, validator=_positive)
    write: float = attrs.field(default=30.0, validator=_positive)
    pool: float = attrs.field(default=60.0, validator=_positive)
    total: float = attrs.field(default=60.0, validator=_positive)
    cancel: float = attrs.field(default=5.0, validator=_positive)


@attrs.frozen(kw_only=True)
class Limits:
    """
    What may grow, and how far.

    Attributes:
        max_streams:
            Event streams open at once; who has none is polled. A hundred running tasks
            are many for one team, and stay far below the usual limit of 1024 descriptors.
        max_connections:
            Connections for plain requests (streams have their own): enough to keep a
            service busy from afar, too few to trouble it. A fifth of them is kept for
            status checks, which therefore do not wait behind thousands of submissions.
        poll_rate:
            Status checks and list pages per second for the whole client, whatever
            happens: so a thousand tasks are asked about singly in less than a minute,
            and by pages in a second.
        submit_rate:
            Submissions per second for the whole client, tries again included; ``None``
            sets no rate.
        reconnect_spread:
            Seconds over which the streams lost together come back, so that a service
            that has just restarted is not met by all of them at once.
        max_line_bytes, max_event_bytes:
            Bounds of the event stream's parser. A mebibyte is a thousand times an event,
            and a peer that sends more without a line end sends no events.
        max_reply_bytes:
            Bound of a plain reply's body: above any definition of a workflow, below what
            hurts the process.
        reader_capacity:
            Events that wait for one slow reader; beyond it the newest progress
            overwrites the older. Some minutes of a lively task.
        parallel_transfers:
            Uploads or downloads at once within one call: four fill most lines.
        max_upload_bytes: The service's default limit for one file.
    """

    max_streams: int = attrs.field(default=100, validator=_positive)
    max_connections: int = attrs.field(default=20, validator=_positive)
    poll_rate: float = attrs.field(default=20.0, validator=_positive)
    submit_rate: float | None = attrs.field(default=None, validator=_positive_or_none)
    reconnect_spread: float = attrs.field(default=4.0, validator=_positive)
    max_line_bytes: int = attrs.field(default=1024 * 1024, validator=_positive)
    max_event_bytes: int = attrs.field(default=1024 * 1024, validator=_positive)
    max_reply_bytes: int = attrs.field(default=32 * 1024 * 1024, validator=_positive)
    reader_capacity: int = attrs.field(default=512, validator=_positive)
    parallel_transfers: int = attrs.field(default=4, validator=_positive)
    max_upload_bytes: int = attrs.field(default=500 * 1024 * 1024, validator=_positive)
