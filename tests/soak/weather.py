"""What may go wrong in a soak: every kind of fault by name, and the dice that choose among them."""

import gzip
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import attrs

from cyberun_async.testing import Attempt, Behaviour, TaskPlan, faults

from ..contract.tls import HANDSHAKE_CUTS, HANDSHAKE_STALLS, Cut


Actions: TypeAlias = tuple[faults.Action, ...]
Make: TypeAlias = Callable[[random.Random], Actions]

OUTPUT: Final = {"answer": 42}
_PAGE: Final = "<html><body><h1>502 Bad Gateway</h1></body></html>"
_MONDAY: Final = "Mon, 02 Nov 2026 10:00:00 GMT"
_A_SECOND_LATER: Final = "Mon, 02 Nov 2026 10:00:01 GMT"
_HOWS: Final[tuple[faults.Spoiling, ...]] = (
    *("json", "types", "scalar", "utf8", "empty", "html", "truncated"),
)


def _after(dice: random.Random) -> int:
    return dice.choice((0, 1, 1, 2, 2, 3, 4, 6))


def _raw(data: bytes) -> Make:
    return lambda dice: (faults.raw_after(data, events=_after(dice)),)


def _corrupt(how: faults.Spoiling) -> Make:
    return lambda dice: (faults.corrupt_after(events=_after(dice), how=how),)


def _always(*actions: faults.Action) -> Make:
    return lambda _: actions


# Giants exceed the limits of the soak's client; split into single bytes they take the simulator
# long enough as they are.
STREAM: Final[dict[str, Make]] = {
    "stream cut (FIN)": lambda dice: (faults.drop_after(events=_after(dice)),),
    "stream cut (RST)": lambda dice: (faults.drop_after(events=_after(dice), reset=True),),
    "stream cut inside an event": lambda dice: (faults.drop_after(bytes=dice.randrange(500)),),
    "stream ends cleanly": lambda dice: (faults.close_after(events=_after(dice)),),
    "stream ends cleanly inside an event": (
        lambda dice: (faults.close_after(bytes=dice.randrange(500)),)
    ),
    "half-open: silence forever": lambda dice: (faults.stall_after(events=_after(dice)),),
    "silence for a while": lambda dice: (faults.stall_after(events=_after(dice), seconds=1.5),),
    "a buffering proxy": lambda _: (faults.stall_after(events=0, seconds=30.0),),
    "heartbeats but no events": (
        lambda dice: (faults.heartbeats_after(events=_after(dice), every=0.3),)
    ),
    "one byte at a time": lambda dice: (faults.drip_after(events=_after(dice), every=0.02),),
    "every event twice": _always(faults.repeat()),
    "all events replayed": lambda dice: (faults.replay_after(events=1 + _after(dice)),),
    **{f"payload spoilt: {how}": _corrupt(how) for how in _HOWS},
    "end of another task": lambda dice: (faults.foreign_after(events=_after(dice)),),
    "status of another task": (
        lambda dice: (faults.foreign_after(events=_after(dice), name="status"),)
    ),
    "unknown event": _raw(b'event: preview\ndata: {"x": 1}\n\n'),
    "error event of the service": _raw(b'event: error\ndata: {"error": "no status"}\n\n'),
    "a step back": _raw(b'event: status\ndata: {"status": "queued"}\n\n'),
    "deeply nested payload": _raw(b"event: progress\ndata: " + b"[" * 2000 + b"]" * 2000 + b"\n\n"),
    "numbers beyond measure": _raw(
        b'event: progress\ndata: {"progress": NaN, "step_current": 1' + b"0" * 5000 + b"}\n\n"
    ),
    "half an event": _raw(b"event: completed\ndata: {"),
    "junk bytes": _raw(b"\xff\x00junk\r\r\n\xef\xbb\xbf\n\n"),
    "an id no header may carry": _raw("id: \x01\u2028\u00fc\n\n".encode()),
    "retry: 0": _raw(b"retry: 0\n\n"),
    "retry: of years": _raw(b"retry: 99999999999\n\n"),
    "endless line": _raw(b"data: " + b"x" * 12_000),
    "endless comment": _raw(b": " + b"x" * 12_000 + b"\n"),
    "endless event": _raw(b"data: 0123456789\n" * 800),
}

REFUSED_STREAM: Final[dict[str, Make]] = {
    "stream: 204": _always(faults.refuse(204, body="")),
    "stream: a login page": _always(faults.refuse(200, body=_PAGE)),
    "stream: JSON instead": _always(
        faults.refuse(200, body='{"status": "ok"}', content_type="application/json")
    ),
    "stream: compressed": _always(
        faults.refuse(
            200,
            body=gzip.compress(b"event: status\n\n"),
            content_type="text/event-stream",
            headers={"Content-Encoding": "gzip"},
        )
    ),
    **{f"stream: {code}": _always(faults.refuse(code)) for code in (400, 403, 404, 405, 410, 500)},
    "stream: 401 once": _always(faults.refuse(401)),
    "stream: 429, seconds": _always(faults.refuse(429, retry_after=1)),
    "stream: 429, a date": _always(
        faults.refuse(429, retry_after=_A_SECOND_LATER, headers={"Date": _MONDAY})
    ),
    "stream: 502, a page": _always(faults.refuse(502, body=_PAGE)),
    "stream: 503, Retry-After of nonsense": _always(faults.refuse(503, retry_after="soon")),
    "stream: 503, Retry-After of years": _always(faults.refuse(503, retry_after=10**9)),
    "stream: headers late": _always(faults.hold(after=1.0)),
    "stream: headers never": _always(faults.hold(before=30.0)),
    "stream: hung up on": _always(faults.hang_up()),
    "stream: reset": _always(faults.hang_up(reset=True)),
}

ASK: Final[dict[str, Make]] = {
    **{f"ask: {code}": _always(faults.refuse(code)) for code in (408, 429, 500, 503)},
    "ask: 429, seconds": _always(faults.refuse(429, retry_after=1)),
    "ask: 502, a page": _always(faults.refuse(502, body=_PAGE)),
    "ask: held": _always(faults.hold(after=1.5)),
    "ask: never answered": _always(faults.hold(before=30.0)),
    "ask: hung up on": _always(faults.hang_up()),
    "ask: reset": _always(faults.abandon(reset=True)),
    "ask: answer cut": lambda dice: (faults.drop_after(bytes=dice.randrange(300)),),
    **{f"ask: garbled, {how}": _always(faults.garble(how)) for how in _HOWS if how != "utf8"},
}

_PLAIN_4XX: Final = (400, 405, 409, 410, 418, 421, 425, 431, 451, 499)
_PAGE_4XX: Final = (400, 401, 403, 404, 410)
LONE: Final[dict[str, Make]] = {
    **{f"status check: one {code}": _always(faults.refuse(code)) for code in _PLAIN_4XX},
    **{
        f"status check: {code}, a page": _always(faults.refuse(code, body=f"<h1>{code}</h1>"))
        for code in _PAGE_4XX
    },
    "status check: one 403 of the service": _always(faults.refuse(403)),
    "status check: one 404 of the service": _always(faults.refuse(404)),
}

RESULT: Final[dict[str, Make]] = {
    "result: 500": _always(faults.refuse(500)),
    "result: 503": _always(faults.refuse(503, retry_after=1)),
    "result: hung up on": _always(faults.hang_up()),
    "result: garbled": _always(faults.garble("truncated")),
    "result: silent": _always(faults.hold(before=30.0)),
    "result: gone": _always(faults.refuse(410, "the result is kept no longer")),
}

LIST: Final[dict[str, Make]] = {
    "list: 429": _always(faults.refuse(429, retry_after=1)),
    "list: 502, a page": _always(faults.refuse(502, body=_PAGE)),
    "list: hung up on": _always(faults.hang_up()),
    "list: garbled": _always(faults.garble("json")),
}

RUN: Final[dict[str, Make]] = {
    "run: 429": _always(faults.refuse(429)),
    "run: 503 of the service": _always(faults.refuse(503)),
    "run: 502, a page": _always(faults.refuse(502, body=_PAGE)),
    "run: taken, then cut": _always(faults.abandon()),
    "run: cut before it was taken": _always(faults.hang_up(reset=True)),
    "run: answer garbled": _always(faults.garble("json")),
    "run: answer late": _always(faults.hold(after=1.0)),
}

# A task that is refused for good ends its watch with the error that stands for it.
DOOMED: Final = {
    "task refused for good: 401": 401,
    "task refused for good: 403": 403,
    "task refused for good: 404": 404,
}

SWITCHES: Final[dict[str, tuple[object, ...]]] = {
    "on_connect": ("current", "history", "nothing"),
    "finished_stream": ("terminal", "close", "not_found", "no_content"),
    "provisioning": (False, True),
    "heartbeat": (None, 0.3),
    "event_ids": (False, True),
    "retry_hint": (None, 50),
    "multiline_data": (False, True),
    "line_end": ("\n", "\r\n", "\r"),
    "chunk_bytes": (None, 1, 17),
    "unknown_events": (False, True),
    "error_event": (None, "continue", "drop"),
    "final_status": (False, True),
    "repeat_terminal": (False, True),
    "late_progress": (False, True),
    "stream_lifetime": (None, None, 0.8),
    "vocabulary": ("documented", "both", "swapped"),
    "empties": ("documented", "null", "absent", "blank"),
    "progress_steps": (True, False),
    "replica_lag": (0.0, 0.0, 0.4),
    "result_lag": (0.0, 1.5, 3.0),
}


# The connections of the half that comes over TLS. A handshake takes some 900 bytes of the
# server, and the tickets after it 500.
HANDSHAKE: Final[dict[str, Cut]] = {
    **{f"TLS: {name}": cut for name, cut in {**HANDSHAKE_CUTS, **HANDSHAKE_STALLS}.items()},
    "TLS: cut after the handshake": Cut(1000, "fin"),
    "TLS: cut within the first answer": Cut(1500, "reset"),
}


class Deck:
    """Deals names in random order, none twice more often than any other."""

    def __init__(self, names: Iterable[str], dice: random.Random) -> None:
        self._dealt = dict.fromkeys(names, 0)
        self._dice = dice

    def deal(self) -> str:
        """Return one of the names that were dealt least often."""
        least = min(self._dealt.values())
        name = self._dice.choice([name for name, count in self._dealt.items() if count == least])
        self._dealt[name] += 1
        return name

    def give_back(self, name: str) -> None:
        """Deal *name* once more."""
        if name in self._dealt:
            self._dealt[name] -= 1


@attrs.define
class Weather:
    """Plans each task's life and misfortunes by its dice, and knows what each fault is called."""

    _dice: random.Random
    _decks: dict[int, Deck] = attrs.field(factory=dict[int, Deck], init=False)
    names: dict[tuple[str, Actions], str] = attrs.field(
        factory=dict[tuple[str, Actions], str], init=False
    )

    def plan(self) -> TaskPlan:
        """Return the life of some task."""
        dice = self._dice
        attempts = tuple(
            Attempt(dice.randrange(6), dice.choice(("queued", "running")))
            for _ in range(dice.choice((0, 0, 0, 0, 1, 2)))
        )
        return TaskPlan(
            pending=dice.random() * 0.2,
            waiting=dice.random() * 0.2,
            queued=dice.random() * 0.4,
            steps=dice.randrange(1, 25),
            step_seconds=dice.random() * 0.2,
            outcome=dice.choice(("completed", "completed", "completed", "failed", "cancelled")),
            unknown_end=UNKNOWN_STATE if dice.random() < 0.04 else None,
            attempts=attempts,
            output=OUTPUT,
            behaviour=_behaviour(dice),
            faults=tuple(self._faults()),
        )

    def run_fault(self) -> Actions:
        """Return what happens to some submission."""
        return self._chosen("run", RUN)

    def cut(self) -> Cut:
        """Return what happens to some connection over TLS."""
        deck = self._decks.setdefault(id(HANDSHAKE), Deck(HANDSHAKE, self._dice))
        return HANDSHAKE[deck.deal()]

    def list_fault(self) -> Actions:
        """Return what happens to some page of the list."""
        return self._chosen("tasks", LIST)

    def _faults(self) -> Iterable[faults.Fault]:
        dice = self._dice
        if dice.random() < 0.05:
            yield from self._doom()
        for _ in range(dice.choice((0, 1, 2, 2, 3))):
            yield self._fault("events", dice.choice((STREAM, STREAM, REFUSED_STREAM)))
        for _ in range(dice.choice((0, 0, 1, 2))):
            yield self._fault("task", ASK)
        if dice.random() < 0.3:
            # Never two: the service's own 403 and 404, one after the other, are final.
            yield self._fault("task", LONE)
        if dice.random() < 0.2:
            yield self._fault("result", RESULT)

    def _fault(self, endpoint: faults.Endpoint, table: dict[str, Make]) -> faults.Fault:
        actions = self._chosen(endpoint, table)
        # What slows all asks down strikes once each time.
        times = 1 if table in (ASK, LONE) else self._dice.choice((1, 1, 1, 3))
        return faults.on(endpoint, *actions, times=times)

    def _chosen(self, endpoint: str, table: dict[str, Make]) -> Actions:
        deck = self._decks.setdefault(id(table), Deck(table, self._dice))
        name = deck.deal()
        return self._named(endpoint, name, table[name](self._dice))

    def _doom(self) -> Iterable[faults.Fault]:
        name = self._decks.setdefault(id(DOOMED), Deck(DOOMED, self._dice)).deal()
        # A message of its own, so that it is reported from the same status on the stream alone.
        actions = (faults.refuse(DOOMED[name], name),)
        yield faults.on("task", *self._named("task", name, actions), times=None)
        yield faults.on("events", *actions, times=None)

    def name_of(self, fault: faults.Fault) -> str | None:
        """Return the name of a fault that was planned here."""
        return self.names.get((fault.endpoint, fault.actions))

    def missed(self, name: str) -> None:
        """Plan *name* once more, since it had no chance to strike."""
        for deck in self._decks.values():
            deck.give_back(name)

    def _named(self, endpoint: str, name: str, actions: Actions) -> Actions:
        if self.names.setdefault((endpoint, actions), name) != name:
            message = f"{name} cannot be reported from {self.names[endpoint, actions]}"
            raise ValueError(message)
        return actions


def _behaviour(dice: random.Random) -> Behaviour:
    return Behaviour(**{name: dice.choice(values) for name, values in SWITCHES.items()})  # type: ignore[arg-type]


def doom_of(plan: TaskPlan) -> int | None:
    """Return the status with which the task is refused for good, or None."""
    for fault in plan.faults:
        if isinstance(fault, faults.Fault) and fault.times is None:
            refusal = fault.actions[0]
            return refusal.status if isinstance(refusal, faults.Refuse) else None
    return None


UNKNOWN_STATE: Final = "evaporated"
UNKNOWN_END: Final = "task ended in a state nobody knows"
ACROSS: Final = "whole life replayed in a later attempt"
LAGGING: Final = "result lagging behind its task"
OF_LIVES: Final = (UNKNOWN_END, ACROSS, LAGGING)

RESTART: Final = "service killed and restarted"
CUT: Final = "all streams cut at once"
RESET: Final = "all streams reset at once"
REVOKE: Final = "key revoked under way"
FROM_OUTSIDE: Final = (RESTART, CUT, RESET, REVOKE)
BY_THE_READER: Final = (
    "reader cancelled",
    "reader cancelled twice",
    "reader left by break",
    "iterator abandoned",
    "slow reader",
    "deadline passed",
    "read that timed out",
)


def every_kind() -> list[str]:
    """Return the names of all faults; each has to be hit in a soak."""
    tables = (STREAM, REFUSED_STREAM, ASK, LONE, RESULT, LIST, RUN, DOOMED, HANDSHAKE)
    named = [name for table in tables for name in table]
    return [*named, *OF_LIVES, *FROM_OUTSIDE, *BY_THE_READER]


def none_hit(counts: Counter[str]) -> list[str]:
    """Return the kinds of fault that never happened."""
    return [name for name in every_kind() if not counts[name]]
