"""The client: one method per thing a user wants done."""

from .client import CyberunClient as CyberunClient
from .handle import TaskHandle as TaskHandle
from .many import (
    MergedEvents as MergedEvents,
    Outcome as Outcome,
    Outcomes as Outcomes,
    Submission as Submission,
    Submissions as Submissions,
)
from .pagination import Pager as Pager
from .progress_view import ProgressReader as ProgressReader, ProgressView as ProgressView
from .resources import Agents as Agents, Tasks as Tasks, Workflows as Workflows
from .settings import ClientOptions as ClientOptions
from .streams import EventStream as EventStream
from .submit import RunOptions as RunOptions
from .webhooks import Webhooks as Webhooks
