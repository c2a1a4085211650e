"""How a batch behaves: a frozen value with documented defaults, each with its reason."""

import os
from typing import Any, Literal, TypeAlias

import attrs

from .. import ConfigurationError


Choice: TypeAlias = Literal["resubmit", "skip", "raise"]


# No wait means more than this, and a float holds it.
_LARGEST = 2**63


def _at_least_one(_: Any, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{attribute.name} must be a whole number from 1 on")


def _not_negative(_: Any, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        raise ConfigurationError(f"{attribute.name} must be a number of seconds from 0 on")


def _choice(_: Any, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if not isinstance(value, str) or value not in {"resubmit", "skip", "raise"}:
        raise ConfigurationError(f"{attribute.name} must be 'resubmit', 'skip' or 'raise'")


@attrs.frozen(kw_only=True)
class BatchPolicy:
    """
    What a batch does, and what it does when something goes wrong.

    Attributes:
        concurrency:
            Jobs in flight at once, from their submission to their recorded end. It is
            halved when the service answers 429 and climbs back by one for each round
            of jobs that were accepted.

        max_submissions_per_job:
            How often a job whose task failed is submitted in all. One, since every
            run is billed. With a higher value, a later run takes the failed jobs up.

        fail_fast:
            Stop at the first job that does not complete: its outcome comes, then
            ``BatchStoppedError``.

        cancel_rest:
            When it stops so, also cancel the tasks that still run. Otherwise they keep
            running and will be billed, and the next run takes them up.

        on_uncertain:
            A submission whose answer was never read and for which there are candidates
            among the service's tasks.

        on_probably_not_submitted:
            One for which there are none. ``resubmit`` costs nothing twice as long as
            the task list shows every task, which nobody promises.

        clock_skew:
            Seconds by which this machine's clock may be ahead of the service's.

        settle_time:
            Seconds between the loss of an answer and the look into the task list: a
            request may still be in flight, and lists may lag.

        download_to:
            Folder that gets one folder per job with the files of its task, or None.

        patience:
            Seconds for which the batch repeats what the service declines for now (429), or
            what provably did not reach it, before it stops. Nothing is lost then.

        stop_grace:
            Seconds that requests in flight get for their answer when the batch is
            cancelled, so that they are confirmed.
    """

    concurrency: int = attrs.field(default=100, validator=_at_least_one)
    max_submissions_per_job: int = attrs.field(default=1, validator=_at_least_one)
    fail_fast: bool = False
    cancel_rest: bool = False
    on_uncertain: Choice = attrs.field(default="raise", validator=_choice)
    on_probably_not_submitted: Choice = attrs.field(default="raise", validator=_choice)
    clock_skew: float = attrs.field(default=120.0, validator=_not_negative)
    settle_time: float = attrs.field(default=10.0, validator=_not_negative)
    download_to: str | os.PathLike[str] | None = None
    patience: float = attrs.field(default=1800.0, validator=_not_negative)
    stop_grace: float = attrs.field(default=5.0, validator=_not_negative)

    def choice(self, verdict: str) -> Choice:
        """Return what is to be done about a submission of this verdict."""
        return self.on_uncertain if verdict == "uncertain" else self.on_probably_not_submitted
