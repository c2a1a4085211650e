"""What the service's documentation leaves open, as one value of switches."""

from typing import Literal, TypeAlias

import attrs

from .checks import Checked


OnConnect: TypeAlias = Literal["current", "history", "nothing"]
FinishedStream: TypeAlias = Literal["terminal", "close", "not_found", "no_content"]
Empties: TypeAlias = Literal["documented", "null", "absent", "blank"]
Vocabulary: TypeAlias = Literal["documented", "both", "swapped"]
ListOrder: TypeAlias = Literal["newest", "oldest", "shuffled"]

# What a refusal of a server may be.
_LOWEST_STATUS, _HIGHEST_STATUS = 400, 599


@attrs.frozen(kw_only=True)
class Behaviour(Checked):
    """
    Say how the service behaves where its documentation is silent.

    The defaults are what the documented samples show. Change some with
    ``attrs.evolve(behaviour, heartbeat=5.0)`` or name them when creating one.
    All durations are real seconds: `Simulator.speed` does not touch them,
    because they are measured against the client's own timers.

    Raises:
        ValueError: A field is of the wrong type or out of range; the message names it.
    """

    _positive = frozenset({"heartbeat", "chunk_bytes", "webhook_attempts"})
    _signed = frozenset({"total_count_error", "row_shift"})

    # The event stream.

    on_connect: OnConnect = "current"
    """What a new stream says first: the present state, all past events, nothing."""

    finished_stream: FinishedStream = "terminal"
    """How a stream on a finished task answers: its end, a bare close, 404, 204."""

    provisioning: bool = False
    """Whether tasks pass through the state `provisioning`."""

    heartbeat: float | None = None
    """Seconds between comment lines on a silent stream; None sends none."""

    event_ids: bool = False
    """Whether events carry `id:`; `Last-Event-ID` is then honoured."""

    retry_hint: int | None = None
    """Milliseconds of a `retry:` line at the start of a stream."""

    multiline_data: bool = False
    """Whether the JSON of an event is spread over several `data:` lines."""

    line_end: Literal["\n", "\r\n", "\r"] = "\n"
    """What ends a line of the stream."""

    chunk_bytes: int | None = None
    """Bytes per HTTP chunk; None sends each event in a chunk of its own."""

    unknown_events: bool = False
    """Whether `log` and `preview` events, which no page names, are sent too."""

    error_event: Literal["continue", "drop"] | None = None
    """Whether an `error` event follows `running`, and whether the stream survives it."""

    terminal_timestamp: bool = False
    """Whether the terminal event carries a `timestamp`."""

    progress_steps: bool = True
    """Whether progress events report their steps."""

    final_status: bool = False
    """Whether a `status` event precedes the terminal event."""

    repeat_terminal: bool = False
    """Whether the terminal event is sent twice."""

    late_progress: bool = False
    """Whether a progress event follows the terminal event."""

    stream_lifetime: float | None = None
    """Seconds after which a stream is closed in good order, as a proxy does."""

    revoke_ends_streams: bool = False
    """Whether revoking a key closes the streams it opened."""

    # Names and empties, on the stream and off it.

    vocabulary: Vocabulary = "documented"
    """Which names are used: as documented, `status` and `task_status` both, or the other."""

    empties: Empties = "documented"
    """How an unset field is written; documented is `""` for the error, null elsewhere."""

    reports_retry_count: bool = True
    """Whether `retry_count` is part of a task."""

    # Results.

    early_result: Literal["nulls", "conflict"] = "nulls"
    """What `/result` says before the end: nulls, or 409."""

    result_lag: float = 0.0
    """Seconds after its end for which a task's result is still what it was before."""

    result_retention: float | None = None
    """Seconds after its end at which a task's result is gone."""

    result_gone_status: int = 410
    """The status code of a result that is gone."""

    link_lifetime: float = 3600.0
    """Seconds for which a presigned link works."""

    # Lists.

    list_order: ListOrder = "newest"
    """The order of the task list."""

    total_count_error: int = 0
    """What is added to the true `total_count`."""

    refused_filters: frozenset[str] = frozenset()
    """Values of the filter `status` that are answered with 400."""

    filter_ignored: bool = False
    """Whether the filter `status` has no effect."""

    row_shift: int = 0
    """Rows that appear (or, below 0, vanish) at the front between two pages."""

    # Submissions.

    validates: bool = True
    """Whether parameters are checked against the workflow's definitions."""

    accept_delay: float = 0.0
    """Seconds between a submission being accepted and the 202."""

    replica_lag: float = 0.0
    """Seconds after a submission for which the task is answered with 404."""

    # Files.

    upload_headers: Literal["documented", "none"] = "documented"
    """Which headers an upload is signed with: length and `If-None-Match`, or none."""

    # Webhooks and management.

    webhook_attempts: int = 4
    """How often a delivery is tried in all."""

    webhook_secret_on_create: bool = False
    """Whether creating a webhook answers its secret as well."""

    management_takes_integration_keys: bool = False
    """Whether `sk-` keys may call the management endpoints."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not _LOWEST_STATUS <= self.result_gone_status <= _HIGHEST_STATUS:
            raise ValueError(
                "Behaviour.result_gone_status must be a status code from "
                f"{_LOWEST_STATUS} to {_HIGHEST_STATUS}, not {self.result_gone_status}"
            )
