"""What a watch decides: no await, no clock, no randomness."""

from ._state import Counters as Counters
from .check_timer import CheckTimer as CheckTimer
from .facts import (
    report_answer as report_answer,
    report_id as report_id,
    report_messages as report_messages,
)
from .machine import Watch as Watch
from .ordering import Order as Order, Verdict as Verdict
from .pauses import (
    climb_pause as climb_pause,
    poll_pause as poll_pause,
    rest_pause as rest_pause,
    retry_pause as retry_pause,
)
from .progress import (
    ProgressTracker as ProgressTracker,
    ProgressUpdate as ProgressUpdate,
    TimeLeft as TimeLeft,
    duration as duration,
)
from .steps import (
    Check as Check,
    Connect as Connect,
    Fail as Fail,
    FetchResult as FetchResult,
    Finish as Finish,
    Phase as Phase,
    Poll as Poll,
    Read as Read,
    Sleep as Sleep,
    Step as Step,
)
