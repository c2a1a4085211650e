"""What a client is doing, as a value."""

import attrs


@attrs.frozen(kw_only=True)
class ClientStatistics:
    """
    A client's state at a moment.

    Attributes:
        transport: What speaks HTTP: ``"httpx"`` or ``"aiohttp"``.
        open_streams: Event streams open now.
        followed_tasks: Tasks being watched or waited for now.
        stream_slots: The most streams that may be open.
        requests: HTTP requests made so far, streams and downloads included.
        retries: How many of them were repetitions.
        asks: Status requests on behalf of watches and waits.
        events: Events delivered.
        reconnects: Streams opened again after a loss.
        switches_to_polling: Watches that went on by polling.
        repeats_dropped: Repeated events that were not delivered.
        foreign_frames: Events of another task that were not delivered.
        garbled_payloads: Events that could not be read.
    """

    transport: str
    open_streams: int
    followed_tasks: int
    stream_slots: int
    requests: int
    retries: int
    asks: int
    events: int
    reconnects: int
    switches_to_polling: int
    repeats_dropped: int
    foreign_frames: int
    garbled_payloads: int
