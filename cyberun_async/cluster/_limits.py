"""How the account's limits are divided among the shards that run at once."""

import attrs

from .. import ConfigurationError, Limits
from ..batch import BatchPolicy


@attrs.frozen(kw_only=True)
class Division:
    """
    What one of several parts of the account may use.

    Attributes:
        parts: How many shards run at once; the sum of all parts is the whole or less.
        policy: The policy of each shard.
        limits: The limits of each worker's client.
    """

    parts: int
    policy: BatchPolicy
    limits: Limits


def whole(value: object, name: str) -> int:
    """
    Return *value* if it is a whole number from 1 on.

    Raises:
        ConfigurationError: It is not; *name* is in the message.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number from 1 on")
    return value


def divided(policy: BatchPolicy, limits: Limits, parts: int) -> Division:
    """
    Return the share of one part in *policy* and *limits*, the account's.

    What counts for the whole account is divided and rounded down: jobs under way, event
    streams, connections, status requests and submissions per second, transfers. Fewer
    parts are made where there would be less than one job or one connection for each.
    Transfers are one for each part at least, so that together they may be more than the
    account's.

    Raises:
        ConfigurationError: *parts* is no whole number from 1 on.
    """
    most = min(
        whole(parts, "workers"), policy.concurrency, limits.max_connections, limits.max_streams
    )
    share = attrs.evolve(
        limits,
        max_streams=limits.max_streams // most,
        max_connections=limits.max_connections // most,
        poll_rate=limits.poll_rate / most,
        submit_rate=None if limits.submit_rate is None else limits.submit_rate / most,
        parallel_transfers=max(limits.parallel_transfers // most, 1),
    )
    smaller = attrs.evolve(policy, concurrency=policy.concurrency // most)
    return Division(parts=most, policy=smaller, limits=share)
