"""What the service remembers about the requests it got, for assertions."""

from collections import Counter, deque
from collections.abc import Mapping

import attrs


@attrs.frozen
class RecordedRequest:
    """One request as it arrived; *at* is in seconds of the service's life."""

    endpoint: str
    method: str
    path: str
    query: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    task_id: str | None
    at: float


@attrs.frozen
class Submission:
    """One accepted run and the task it became."""

    task_id: str
    workflow_id: str
    workflow_slug: str
    version: int
    parameters: Mapping[str, object]
    body: Mapping[str, object]
    at: float


@attrs.frozen
class Delivery:
    """One attempt to deliver a webhook; *status* None means no answer."""

    webhook_id: str
    task_id: str
    event_type: str
    attempt: int
    status: int | None
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes
    at: float


class Records:
    """Bounded memories of requests, submissions, deliveries and connections."""

    def __init__(self, limit: int) -> None:
        self.requests: deque[RecordedRequest] = deque(maxlen=limit)
        self.submissions: deque[Submission] = deque(maxlen=limit)
        self.deliveries: deque[Delivery] = deque(maxlen=limit)
        self.accepts: deque[float] = deque(maxlen=limit)

    def accepts_per_window(self, seconds: float) -> list[int]:
        """Count the connections accepted in each window since the first one."""
        if not self.accepts:
            return []
        first = self.accepts[0]
        counts = Counter(int((at - first) / seconds) for at in tuple(self.accepts))
        return [counts[window] for window in range(max(counts) + 1)]

    def clear(self) -> None:
        """Forget everything."""
        self.requests.clear()
        self.submissions.clear()
        self.deliveries.clear()
        self.accepts.clear()
