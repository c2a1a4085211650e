"""The status checks that are due, by the state in which each task was last seen."""

from typing import Generic, TypeVar


T = TypeVar("T")


class DuePolls(Generic[T]):
    """Who is to be checked and since when; oldest first within a state."""

    def __init__(self) -> None:
        self._by_state: dict[str | None, dict[T, float]] = {}
        self._state_of: dict[T, str | None] = {}

    def __len__(self) -> int:
        return len(self._state_of)

    def add(self, who: T, state: str | None, since: float) -> None:
        """*who*, last seen in *state*, is due *since* then."""
        self.discard(who)
        self._state_of[who] = state
        self._by_state.setdefault(state, {})[who] = since

    def discard(self, who: T) -> bool:
        """Forget *who*; return whether it was due."""
        if who not in self._state_of:
            return False
        del self._by_state[self._state_of.pop(who)][who]
        return True

    def counts(self) -> dict[str | None, int]:
        """Return how many are due in each state in which any is."""
        return {state: len(due) for state, due in self._by_state.items() if due}

    def take(self, state: str | None) -> dict[T, float]:
        """Remove and return all that are due in *state*."""
        taken = self._by_state.pop(state, {})
        for who in taken:
            del self._state_of[who]
        return taken

    def take_one(self, barred: set[str | None]) -> tuple[T, float] | None:
        """Remove and return who is due longest among the states that are not barred."""
        fronts = [
            (since, who)
            for state, due in self._by_state.items()
            if due and state not in barred
            for who, since in (next(iter(due.items())),)
        ]
        if not fronts:
            return None
        since, who = min(fronts, key=lambda front: front[0])
        self.discard(who)
        return who, since
