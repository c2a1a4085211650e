"""What is read: how many streams, how many events, how fast."""

import attrs

from .load import Load


@attrs.frozen
class Scenario:
    """
    One table.

    Attributes:
        title: What happens, for the page.
        streams: How many streams.
        ticks: How many ticks each of them brings.
        interval_ms: Between two ticks of a stream; 0 sends all of them at once.
        at_once: How many streams are read side by side; None reads all.
    """

    title: str
    streams: int
    ticks: int
    interval_ms: int = 0
    at_once: int | None = None

    def load(self, port: int) -> Load:
        """Return what one run reads."""
        return Load(
            port,
            [self._id(number) for number in range(self.streams)],
            self.ticks,
            at_once=self.at_once,
            steady=bool(self.interval_ms),
        )

    def _id(self, number: int) -> str:
        if self.interval_ms:
            return f"steady-{self.ticks}-{self.streams}-{self.interval_ms}-{number}"
        together = 1 if self.at_once else self.streams
        return f"burst-{self.ticks}-{together}-{number}"


def scenario_of(name: str) -> Scenario:
    """Return the scenario called *name*; after a slash stands how many times less is read."""
    name, _, divisor = name.partition("/")
    whole = SCENARIOS[name]
    return attrs.evolve(whole, ticks=max(whole.ticks // int(divisor or 1), 2))


SCENARIOS = {
    "bulk-1": Scenario("1 stream of 200,000 events, as fast as they are read", 1, 200_000),
    "bulk-100": Scenario("100 streams of 2,000 events, as fast as they are read", 100, 2_000),
    "bulk-1000": Scenario("1,000 streams of 200 events, as fast as they are read", 1_000, 200),
    "steady-100": Scenario("100 streams, an event each 20 ms", 100, 200, 20),
    "steady-1000": Scenario("1,000 streams, an event each 400 ms", 1_000, 15, 400),
    "churn": Scenario("2,000 tasks of 5 events each, 50 at once", 2_000, 5, at_once=50),
}
