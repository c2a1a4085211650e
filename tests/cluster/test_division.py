"""How limits are divided: the sum of all parts is the whole or less."""

import pytest

from cyberun_async import ConfigurationError, Limits
from cyberun_async.batch import BatchPolicy
from cyberun_async.cluster._limits import divided


def test_each_part_gets_its_share() -> None:
    """What counts for the whole account is divided; what bounds one reply or line is not."""
    found = divided(BatchPolicy(concurrency=100, patience=7.0), Limits(), 3)

    assert found.parts == 3
    assert found.policy == BatchPolicy(concurrency=33, patience=7.0)
    assert found.limits == Limits(
        max_streams=33, max_connections=6, poll_rate=20.0 / 3, parallel_transfers=1
    )


@pytest.mark.parametrize("parts", range(1, 130, 7))
def test_the_parts_are_never_more_than_the_whole(parts: int) -> None:
    """Whatever their number, all parts together keep to the account's limits."""
    policy, limits = BatchPolicy(concurrency=50), Limits(submit_rate=8.0)
    found = divided(policy, limits, parts)

    assert found.parts * found.policy.concurrency <= policy.concurrency
    assert found.parts * found.limits.max_streams <= limits.max_streams
    assert found.parts * found.limits.max_connections <= limits.max_connections
    assert found.parts * found.limits.poll_rate <= limits.poll_rate * (1 + 1e-9)
    assert found.parts * (found.limits.submit_rate or 0.0) <= 8.0 * (1 + 1e-9)


def test_there_is_no_part_without_a_job() -> None:
    """With less jobs at once than workers, only so many shards run at once."""
    found = divided(BatchPolicy(concurrency=2), Limits(), 8)

    assert (found.parts, found.policy.concurrency) == (2, 1)


@pytest.mark.parametrize("parts", [0, -1, True, 1.5], ids=repr)
def test_a_number_of_workers_is_a_whole_number(parts: int) -> None:
    """Anything else is a typed error."""
    with pytest.raises(ConfigurationError, match="workers must be a whole number from 1 on"):
        divided(BatchPolicy(), Limits(), parts)
