"""Following tasks: one follower per task, the streams and polls they share."""

from .check_places import Places as Places
from .due_polls import DuePolls as DuePolls
from .event_buffer import EventBuffer as EventBuffer
from .follower import Follower as Follower, Shared as Shared, copied as copied
from .followers import Economy as Economy, Followers as Followers
from .list_polling import (
    ListMemory as ListMemory,
    ListPolling as ListPolling,
    is_worth_going_on as is_worth_going_on,
    pages_of as pages_of,
    snapshot_of as snapshot_of,
)
from .notifier import Faults as Faults, Notifier as Notifier
from .poller import Poller as Poller
from .rate_limit import Lately as Lately, RateLimit as RateLimit
from .results import ResultReading as ResultReading
from .stream_slots import StreamSlots as StreamSlots
