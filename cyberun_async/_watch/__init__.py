"""What a watch decides: no await, no clock, no randomness."""

from .check_timer import CheckTimer as CheckTimer
from .machine import Counters as Counters, Watch as Watch
from .ordering import Fate as Fate, Ordering as Ordering
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
    Connect as Connect,
    Fail as Fail,
    FetchResult as FetchResult,
    Finish as Finish,
    Phase as Phase,
    Read as Read,
    Step as Step,
    Wait as Wait,
)
