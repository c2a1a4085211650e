"""How limits are divided: the sum of all parts is the whole or less."""

import pytest

from cyberun_async import ConfigurationError, Limits
from cyberun_async.batch import BatchPolicy
from cyberun_async.cluster._limits import divided, whole


def test_each_part_gets_its_share() -> None:
    """What counts for the whole account is divided; what bounds one reply or line is not."""
    parts, policy, limits = divided(BatchPolicy(concurrency=100, patience=7.0), Limits(), 3)

    assert parts == 3
    assert policy == BatchPolicy(concurrency=33, patience=7.0)
    assert limits == Limits(
        max_streams=33, max_connections=6, poll_rate=20.0 / 3, parallel_transfers=1
    )


@pytest.mark.parametrize("workers", range(1, 130, 7))
def test_the_parts_are_never_more_than_the_whole(workers: int) -> None:
    """Whatever their number, all parts together keep to the account's limits."""
    policy, limits = BatchPolicy(concurrency=50), Limits(submit_rate=8.0)
    parts, smaller, share = divided(policy, limits, workers)

    assert parts * smaller.concurrency <= policy.concurrency
    assert parts * share.max_streams <= limits.max_streams
    assert parts * share.max_connections <= limits.max_connections
    assert parts * share.poll_rate <= limits.poll_rate * (1 + 1e-9)
    assert parts * (share.submit_rate or 0.0) <= 8.0 * (1 + 1e-9)


def test_there_is_no_part_without_a_job() -> None:
    """With less jobs at once than workers, only so many shards run at once."""
    parts, policy, _ = divided(BatchPolicy(concurrency=2), Limits(), 8)

    assert (parts, policy.concurrency) == (2, 1)


@pytest.mark.parametrize("parts", [0, -1, True, 1.5], ids=repr)
def test_a_number_of_workers_is_a_whole_number(parts: int) -> None:
    """Anything else is a typed error."""
    with pytest.raises(ConfigurationError, match="workers must be a whole number from 1 on"):
        whole(parts, "workers")
