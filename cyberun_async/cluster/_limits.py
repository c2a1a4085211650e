"""How the account's limits are divided among the shards that run at once."""

import attrs

from .. import ConfigurationError, Limits
from ..batch import BatchPolicy


def whole(value: object, name: str) -> int:
    """
    Return *value* if it is a whole number from 1 on.

    Raises:
        ConfigurationError: It is not; *name* is in the message.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number from 1 on")
    return value


def divided(policy: BatchPolicy, limits: Limits, workers: int) -> tuple[int, BatchPolicy, Limits]:
    """
    Return into how many parts *policy* and *limits*, the account's, are divided, and one part.

    What counts for the whole account is divided and rounded down: jobs in flight, event
    streams, connections, status requests and submissions per second, transfers. There are
    fewer parts than *workers* if each would get less than one job or one connection. Each
    gets one transfer at least, so that together they may have more than the account's.
    """
    parts = min(workers, policy.concurrency, limits.max_connections, limits.max_streams)
    share = attrs.evolve(
        limits,
        max_streams=limits.max_streams // parts,
        max_connections=limits.max_connections // parts,
        poll_rate=limits.poll_rate / parts,
        submit_rate=None if limits.submit_rate is None else limits.submit_rate / parts,
        parallel_transfers=max(limits.parallel_transfers // parts, 1),
    )
    return parts, attrs.evolve(policy, concurrency=policy.concurrency // parts), share
