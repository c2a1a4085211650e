"""What a policy lets be said, and what it answers."""

from typing import Any

import pytest

from cyberun_async import ConfigurationError
from cyberun_async.batch import BatchPolicy


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"concurrency": 2.5},
        {"max_submissions_per_job": 0},
        {"on_uncertain": "retry"},
        {"on_probably_not_submitted": None},
        {"clock_skew": -1},
        {"settle_time": float("nan")},
        {"patience": -0.1},
        {"stop_grace": -1},
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_named(wrong: dict[str, Any]) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        BatchPolicy(**wrong)


def test_each_verdict_has_a_choice_of_its_own() -> None:
    """What is done about one class says nothing about the other; by default both raise."""
    policy = BatchPolicy(on_uncertain="skip", on_probably_not_submitted="resubmit")

    assert policy.choice("uncertain") == "skip"
    assert policy.choice("probably not submitted") == "resubmit"
    assert {BatchPolicy().choice(v) for v in ("uncertain", "probably not submitted")} == {"raise"}
