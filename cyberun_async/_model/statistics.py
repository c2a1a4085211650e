"""What a client is doing, as a value."""

import attrs


@attrs.frozen(kw_only=True)
class Polling:
    """How many tasks are polled, and at which intervals."""

    tasks: int
    interval: float
    interval_waiting: float


@attrs.frozen(kw_only=True)
class ClientStatistics:
    """
    A client's state, as far as one key and team are concerned.

    Attributes:
        transport: What speaks HTTP: ``"httpx"`` or ``"aiohttp"``.
        open_streams: Event streams open now.
        open_transfers: Connections to the store of files open now, those of downloads that
            are being read among them.
        followed_tasks: Tasks being watched or waited for now.
        stream_slots: The most streams that may be open, those of other tenants included.
        polled_tasks: Those of them that are polled, for want of a stream or of a reader.

        poll_interval:
            Seconds between two status checks of a polled task that runs: those of the policy,
            and by how much those were late recently. It grows with the number
            of tasks, and where the service asks for patience.

        poll_interval_waiting:
            The longest such interval of a task that waits for a GPU, and by how much status
            checks of such tasks were late.

        requests: HTTP requests made so far, streams and downloads included.
        retries: How many of them were repetitions.
        status_checks: Status requests on behalf of watches and waits.
        list_pages: Pages of the task list asked for in their stead.
        events: Events delivered.
        dropped_progress: Progress events overwritten by newer ones because their reader was slow.
        reconnects: Streams opened again after a loss.
        switches_to_polling: Watches that went on by polling.
        repeats_dropped: Repeated events that were not delivered.
        foreign_frames: Events of another task that were not delivered.
        garbled_payloads: Events that could not be read.
    """

    transport: str
    open_streams: int
    open_transfers: int
    followed_tasks: int
    stream_slots: int
    polled_tasks: int
    poll_interval: float
    poll_interval_waiting: float
    requests: int
    retries: int
    status_checks: int
    list_pages: int
    events: int
    dropped_progress: int
    reconnects: int
    switches_to_polling: int
    repeats_dropped: int
    foreign_frames: int
    garbled_payloads: int
