"""
Values that describe what the service holds: tasks, results, workflows, agents.

All are frozen and slotted, compare by value, hash, copy and pickle. Fields the
service sends that are not modelled stay reachable: :attr:`raw` holds the bytes
the value was read from. What the service leaves out is ``None``, and so is the
empty string where the documentation uses it for "nothing". Keys and signed links that
stand in the service's words are left out of ``error``, ``repr`` and pickles; :attr:`raw`
has them, but not in a pickle.
"""

import enum
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import attrs

from .redaction import Described, FromReply, words


class TaskStatus(enum.StrEnum):
    """
    The documented states of a task.

    The set is open: a state this version does not know arrives as a plain
    string and counts as "still in progress". Members equal their strings.
    """

    PENDING = "pending"
    WAITING = "waiting"
    PROVISIONING = "provisioning"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_STATUSES = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
WAITING_STATUSES = frozenset(
    {TaskStatus.PENDING, TaskStatus.WAITING, TaskStatus.PROVISIONING, TaskStatus.QUEUED}
)

_KNOWN_STATUSES: Mapping[str, TaskStatus] = {str(status): status for status in TaskStatus}


def parse_status(text: str) -> str:
    """Return the :class:`TaskStatus` member for *text*, or *text* itself when unknown."""
    return _KNOWN_STATUSES.get(text, text)


def is_known(status: str) -> bool:
    """Return whether *status* is one of the documented states."""
    return status in _KNOWN_STATUSES


def is_terminal(status: str | None) -> bool:
    """Return whether *status* is one of the three final states."""
    return status in TERMINAL_STATUSES


@attrs.frozen(kw_only=True, repr=False)
class TaskSnapshot(FromReply):
    """
    The state of a task at one moment, as ``GET /r/tasks/{id}`` reports it.

    The REST view has no progress; that exists only on the event stream.
    """

    id: str
    status: str
    workflow_id: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error: str | None = attrs.field(default=None, converter=words)
    retry_count: int | None = None
    agent_id: str | None = None
    gateway_id: str | None = None
    agent_labels: tuple[str, ...] = ()
    gpu_type: str | None = None
    dispatch_target: str | None = None
    target_pool: str | None = None
    tool_type: str | None = None

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended and will not change again."""
        return self.status in TERMINAL_STATUSES

    @property
    def attempt(self) -> int:
        """The number of the current attempt, counted from 1."""
        return (self.retry_count or 0) + 1


@attrs.frozen(kw_only=True, repr=False)
class ResumeToken(Described):
    """
    What is needed to go on following a task in another process.

    Plain data: pickle it, or store the text of :meth:`dumps`, which is taken wherever a
    task or a token is. It holds no secret.
    """

    _whole: ClassVar[frozenset[str]] = frozenset({"task_id", "last_event_id"})

    task_id: str
    status: str | None = None
    attempt: int = 1
    retry_count: int | None = None
    last_event_id: str | None = None
    submitted_at: datetime | None = None

    def dumps(self) -> str:
        """Return the token as one line of JSON."""
        fields = attrs.asdict(self, filter=lambda _, value: value is not None)
        if self.submitted_at is not None:
            fields["submitted_at"] = self.submitted_at.isoformat()
        return json.dumps(fields, separators=(",", ":"))


@attrs.frozen(kw_only=True, repr=False)
class ParameterDef(Described):
    """
    One parameter that a workflow takes.

    *type* is one of ``string``, ``number`` (``integer`` in some documents),
    ``boolean``, ``select``, ``file``; ``None`` when the service left it out.
    """

    _whole: ClassVar[frozenset[str]] = frozenset({"key", "options"})

    key: str
    type: str | None = None
    label: str | None = None
    description: str | None = None
    required: bool = False
    default: Any = attrs.field(default=None, hash=False)
    min: float | None = None
    max: float | None = None
    options: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    node_id: str | None = None
    field: str | None = None
    target_path: str | None = None
    source_key: str | None = None


@attrs.frozen(kw_only=True, repr=False)
class GpuDevice(Described):
    """One GPU of an agent; memory in bytes."""

    name: str | None = None
    type: str | None = None
    vram_total: int | None = None
    vram_free: int | None = None


@attrs.frozen(kw_only=True, repr=False)
class Agent(FromReply):
    """A connected GPU agent. One that disconnects vanishes from the list."""

    id: str
    status: str | None = None
    labels: tuple[str, ...] = ()
    last_heartbeat_at: datetime | None = None
    connected_at: datetime | None = None
    version: str | None = None
    tool: str | None = None
    tool_version: str | None = None
    comfyui_version: str | None = None
    gpu_capacity: int | None = None
    running_count: int | None = None
    running_tasks: tuple[str, ...] = ()
    current_task_id: str | None = None
    tasks_completed: int | None = None
    platform_arch: str | None = None
    sync_phase: str | None = None
    sync_detail: str | None = None
    sync_percent: float | None = None
    gpu_devices: tuple[GpuDevice, ...] = ()


@attrs.frozen(kw_only=True, repr=False)
class ArtifactLink(Described):
    """
    One downloadable output of a task, whichever link form the service used.

    The link is short-lived and is left out of ``repr``, since whoever has it
    can fetch the file.
    """

    _whole: ClassVar[frozenset[str]] = frozenset({"output_id", "url", "storage_key"})

    output_id: str
    url: str = attrs.field(repr=False)
    storage_key: str | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, hash=False)


@attrs.frozen(kw_only=True, repr=False)
class RawResult(FromReply):
    """The reply of ``GET /r/tasks/{id}/result``: output, links and error of an ended task."""

    id: str
    status: str | None = None
    output: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    links: tuple[ArtifactLink, ...] = ()
    expires_at: datetime | None = None
    completed_at: datetime | None = None
    error: str | None = attrs.field(default=None, converter=words)
