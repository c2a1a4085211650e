"""What reaches the network: connections, requests, streams, and what their failures mean."""

from .api import (
    Account as Account,
    Caller as Caller,
    unavailable as unavailable,
)
from .auth import KeyProvider as KeyProvider, Keyring as Keyring, Secret as Secret, sealed as sealed
from .backends import Loads as Loads, backend_for as backend_for
from .body import Body as Body
from .connections import Connection as Connection, Progress as Progress
from .event_stream import EventConnection as EventConnection
from .fairness import (
    FairQueue as FairQueue,
    FairSemaphore as FairSemaphore,
    Rate as Rate,
    Usage as Usage,
)
from .foreign import ForeignResponse as ForeignResponse
from .proxies import Stage as Stage, Via as Via, refusal as refusal, trouble as trouble
from .retry import (
    RetryQuota as RetryQuota,
    pause_before_retry as pause_before_retry,
    refuses_submission as refuses_submission,
    retry_after_of as retry_after_of,
    submission_is_ambiguous as submission_is_ambiguous,
)
from .settings import (
    HttpClient as HttpClient,
    TransportFactory as TransportFactory,
    TransportSettings as TransportSettings,
    transport_kind as transport_kind,
)
from .tls import context_for as context_for, shared_context as shared_context
from .transport import Transport as Transport, prepared as prepared
