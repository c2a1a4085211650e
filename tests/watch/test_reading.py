"""What the stream brings in one go, read by the decision core."""

import json

from httpx_sse import ServerSentEvent

from cyberun_async._watch import Phase, Watch

from ..following.kit import progress_message, status_message
from .kit import connected, delivered, play


def numbered(message: ServerSentEvent, event_id: str) -> ServerSentEvent:
    return ServerSentEvent(event=message.event, data=message.data, id=event_id)


def reported(*messages: ServerSentEvent) -> Watch:
    watch = play(connected(0.0))
    watch.take()
    newest = next((one.id for one in reversed(messages) if one.id), "")
    watch.read(messages, newest, 1.0, json.loads)
    return watch


def test_the_last_id_of_what_was_taken_in_is_kept() -> None:
    """Progress and statuses keep their order, and the newest id is that of the last of them."""
    watch = reported(
        numbered(status_message("running"), "1"),
        progress_message(1),
        numbered(progress_message(2), "2"),
        numbered(status_message("uploading"), "3"),
        progress_message(3),
    )

    found = [event.raw.get("status") or event.raw["step_current"] for event in delivered(watch)]
    assert found == ["running", 1, 2, "uploading", 3]
    assert watch.last_event_id == "3"


def test_what_comes_after_the_stream_was_given_up_has_to_come_again() -> None:
    """An id that is behind events which were not taken in would skip them forever."""
    garbled = ServerSentEvent(event="progress", data="{")
    watch = reported(*[garbled] * 5, numbered(status_message("running"), "7"))

    assert watch.phase is not Phase.READING
    assert delivered(watch) == []
    assert watch.last_event_id is None


def test_the_id_is_that_of_the_framing() -> None:
    """A block without an id keeps it, an empty one clears it, and no message need say so."""
    watch = reported(numbered(status_message("running"), "1"))
    watch.read([], "2", 2.0, json.loads)
    assert watch.last_event_id == "2"

    watch.read([progress_message(1)], "", 2.0, json.loads)
    assert watch.last_event_id is None


def test_what_could_not_be_read_need_not_come_again() -> None:
    """The event that made the stream useless was taken in, and nothing behind it."""
    noise = [ServerSentEvent(event="progress", data="{", id=str(n)) for n in range(1, 8)]

    assert reported(*noise).last_event_id == "5"
