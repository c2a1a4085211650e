"""
One mechanism after the other switched off, and the tests that have to notice.

A promise is only as good as the test that fails without it. Each entry names a function of
the package and what takes its place; ``nox -s mutations`` (this file, run as a program) runs
the named tests with it, and expects every one of them to fail - after all of them have
passed without any. ``python tests/mutations.py WORD`` runs those whose text has the word.
"""

import functools
import importlib
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs

from cyberun_async._watch import Phase


ROOT = Path(__file__).parents[1]
PACKAGE = "cyberun_async"
SECONDS = 300

# Tells a run of pytest, which loads this file as a plugin, which mutation to apply.
CHOSEN = "CYBERUN_MUTATION"


@attrs.frozen
class Mutation:
    """
    A mechanism switched off.

    Attributes:
        promise: The title of the promise in docs/guarantees.md that it belongs to.
        what: What is no longer done.
        symbol: Module and function or method, as ``package.module:Class.method``.
        replace: Makes, of the original function, what takes its place.
        tests: Tests that pass with the mechanism and fail without it.
    """

    promise: str
    what: str
    symbol: str
    replace: Callable[[Any], Any]
    tests: tuple[str, ...]

    def target(self) -> tuple[Any, str]:
        """Return what holds the function, and its name there."""
        module, _, path = f"{PACKAGE}.{self.symbol}".partition(":")
        *parents, name = path.split(".")
        return functools.reduce(getattr, parents, importlib.import_module(module)), name

    def apply(self) -> None:
        """Put the replacement wherever the original can be reached from the package."""
        owner, name = self.target()
        original = getattr(owner, name)
        replacement = self.replace(original)
        setattr(owner, name, replacement)
        for module in [module for key, module in sys.modules.items() if key.startswith(PACKAGE)]:
            for key, value in list(vars(module).items()):
                if value is original:
                    setattr(module, key, replacement)


def always(*, value: Any) -> Callable[[Any], Any]:
    """Replace a function by one that only returns *value*."""
    return lambda _: lambda *_, **__: value


SKIPPED = always(value=None)


def skipped_async(_: Any) -> Any:
    async def nothing(*_: Any, **__: Any) -> None:
        pass

    return nothing


def before(first: Callable[..., object]) -> Callable[[Any], Any]:
    """Call *first* with the same arguments before the original."""

    def replace(original: Any) -> Any:
        def both(*args: Any, **kwargs: Any) -> Any:
            first(*args, **kwargs)
            return original(*args, **kwargs)

        return both

    return replace


def after(then: Callable[..., object]) -> Callable[[Any], Any]:
    """Call *then* with the same arguments after the original."""

    def replace(original: Any) -> Any:
        def both(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            then(*args, **kwargs)
            return result

        return both

    return replace


# What takes the place of functions, where that is more than a line.


def forgets_its_place(order: Any, status: str) -> None:
    if status != order.status:
        order._seen.clear()
        order._rank = -1


def forgets_the_last_status(order: Any, event: Any) -> None:
    if event.status == order.status:
        order._seen.clear()
        order.status, order._rank = None, -1


def ends_while_reading_only(original: Any) -> Any:
    def end_by(watch: Any, snapshot: Any) -> None:
        if watch.phase is Phase.READING:
            original(watch, snapshot)

    return end_by


def checks_nothing_yet(original: Any) -> Any:
    def connect(watch: Any, now: float) -> None:
        due = watch._checks.at
        original(watch, now)
        watch._checks.at = due

    return connect


def reads_on(watch: Any, *_: Any) -> None:
    if watch.phase is Phase.DONE:
        watch.phase = Phase.READING


def sets(**values: Any) -> Callable[..., None]:
    """Make a function that sets attributes of its first argument."""

    def change(target: Any, *_: Any, **__: Any) -> None:
        for name, value in values.items():
            setattr(target, name, value)

    return change


def fails_where_nothing_was_reached(original: Any) -> Any:
    def refused(
        watch: Any, error: Any, now: float, *, was_reached: bool = True, **more: Any
    ) -> None:
        if was_reached:
            original(watch, error, now, **more)
        else:
            watch.failed(error)

    return refused


def loses_sight_of_its_stream(follower: Any) -> None:
    if follower.watch.phase not in (Phase.CONNECTING, Phase.READING):
        follower._stream_scope = None


def is_over_once_closed(iterator: Any) -> None:
    iterator._is_over = iterator._is_closed


ORDERING = "_watch.ordering:Ordering"
MACHINE = "_watch.machine:Watch"
WATCH = "tests/watch/test_machine.py::test_"
FOLLOWERS = "tests/following/test_followers.py::test_"
REPLAYS = (
    "tests/contract/test_replays_across_attempts.py::"
    "test_a_replay_does_not_dress_an_earlier_attempt_up_as_the_present_one"
)
READING = "tests/contract/test_reading.py::test_"

MUTATIONS = (
    Mutation(
        "Ordered",
        "a step back is delivered instead of held",
        f"{ORDERING}._steps_back",
        always(value=False),
        (f"{WATCH}a_step_back_is_held_with_all_behind_it",),
    ),
    Mutation(
        "Ordered",
        "a grown count begins no attempt",
        f"{ORDERING}._is_new_attempt",
        always(value=False),
        (f"{WATCH}a_check_explains_a_step_back[a-new-attempt-is-reported]",),
    ),
    Mutation(
        "Ordered",
        "a replay of an earlier attempt is taken for the present one",
        f"{ORDERING}._is_behind",
        always(value=False),
        (
            f"{REPLAYS}[virtual-asyncio-None-None-late-while-it-is-queued-again]",
            f"{REPLAYS}[virtual-asyncio-None-None-late-while-it-runs-again]",
        ),
    ),
    Mutation(
        "Ordered",
        "answers of a replica that lags are believed",
        f"{ORDERING}.catch_up",
        before(forgets_its_place),
        (f"{WATCH}an_answer_that_lags_changes_nothing[of-this-attempt]",),
    ),
    Mutation(
        "Settled",
        "an end that an answer shows is not taken",
        f"{MACHINE}._end_by",
        ends_while_reading_only,
        (f"{WATCH}an_end_that_a_check_shows_ends_the_watch_in_any_phase[failed-polling]",),
    ),
    Mutation(
        "Settled",
        "a task that is over in an unknown state is followed on",
        f"{MACHINE}._look_for_unknown_end",
        SKIPPED,
        (f"{WATCH}a_task_that_is_over_in_an_unknown_state_ends_with_its_second_sighting",),
    ),
    Mutation(
        "Settled",
        "no status check is due when a stream is opened",
        f"{MACHINE}._connect",
        checks_nothing_yet,
        (f"{WATCH}each_connection_is_followed_by_a_check",),
    ),
    Mutation(
        "Settled",
        "what comes after the end is taken, too",
        f"{MACHINE}.received",
        before(reads_on),
        (f"{WATCH}every_watch_ends_once[done]",),
    ),
    Mutation(
        "Not twice",
        "a status that equals the last one is news",
        f"{ORDERING}._judge_status",
        before(forgets_the_last_status),
        (f"{WATCH}a_status_is_delivered_once[False]",),
    ),
    Mutation(
        "Not twice",
        "progress that equals the last is delivered behind a reconnection",
        "_watch.ordering:_is_same",
        always(value=False),
        (
            f"{WATCH}a_replayed_life_is_dropped_whole",
            "tests/watch/test_ordering.py::test_a_progress_event_behind_a_reconnection[equal]",
        ),
    ),
    Mutation(
        "Not twice",
        "what a reader knows from elsewhere is not merged",
        f"{MACHINE}.merge_token",
        SKIPPED,
        (f"{FOLLOWERS}a_late_reader_that_knows_more_gets_no_less[virtual-asyncio]",),
    ),
    Mutation(
        "Never mute",
        "silence leads to no status check",
        f"{MACHINE}._pause_after_answer",
        always(value=1e9),
        (f"{WATCH}silence_of_a_minute_is_checked",),
    ),
    Mutation(
        "Never mute",
        "a stream without a byte is kept",
        f"{MACHINE}._phase_due",
        lambda original: lambda watch, _: original(watch, math.inf),
        (f"{WATCH}every_byte_puts_off_reconnecting",),
    ),
    Mutation(
        "Never mute",
        "a clean end is taken for any other loss",
        f"{MACHINE}.lost",
        lambda original: (
            lambda watch, cause, now, *, retry_after=None, **_: original(
                watch, cause, now, retry_after=retry_after
            )
        ),
        (f"{WATCH}a_clean_end_is_checked_before_anything_is_opened_again",),
    ),
    Mutation(
        "Never mute",
        "the service's own error counts as news of the task",
        f"{MACHINE}._react",
        before(lambda watch, _, __, now: watch._moved(now)),
        (f"{WATCH}only_events_of_the_task_put_off_checks[trouble-of-the-service]",),
    ),
    Mutation(
        "Switches by itself",
        "repeated loss does not lead to polling",
        f"{MACHINE}._retreat",
        before(lambda watch, *_: sets(losses=0)(watch.streams)),
        (f"{WATCH}repeated_loss_leads_to_polling[three-losses]",),
    ),
    Mutation(
        "Switches by itself",
        "the way back is tried at an even pace",
        "_watch.pauses:climb_pause",
        lambda original: lambda policy, _, floor, draw: original(policy, 0, floor, draw),
        (f"{WATCH}the_way_back_is_tried_with_growing_pauses",),
    ),
    Mutation(
        "Switches by itself",
        "a stream that is stale is kept",
        "_watch.stream_attempts:StreamAttempts.compare",
        after(sets(stale_at=None)),
        (
            f"{WATCH}a_stream_that_does_not_bring_what_a_check_saw_is_dropped",
            f"{WATCH}a_stream_without_a_single_byte_leads_to_polling_soon",
        ),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a connection resets the backoff",
        "_watch.stream_attempts:StreamAttempts.connected",
        after(sets(losses=0)),
        (f"{WATCH}only_a_new_event_resets_the_backoff",),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a refusal of the stream ends the watch",
        f"{MACHINE}.refused",
        lambda _: lambda watch, error, *_, **__: watch.failed(error),
        (f"{WATCH}a_refused_stream_is_judged_by_a_check[403]",),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a proxy's page is taken for the service's word",
        f"{MACHINE}.check_refused",
        before(lambda _, error, *__: sets(from_service=True)(error)),
        (f"{WATCH}any_other_refusal_is_an_outage[404-False-polling]",),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a refusal that is said once is final",
        f"{MACHINE}._is_final",
        always(value=True),
        (f"{WATCH}a_404_is_checked_once_more",),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a stream that is redirected elsewhere ends the watch",
        f"{MACHINE}.refused",
        fails_where_nothing_was_reached,
        (
            (
                "tests/following/test_follower.py::"
                "test_what_stands_in_the_place_of_a_stream[virtual-asyncio-led-elsewhere]"
            ),
        ),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "what the service asks to wait for is ignored",
        "_backoff:raised",
        lambda _: lambda pause, *_, **__: pause,
        (
            "tests/test_backoff.py::test_a_hint_is_a_floor_with_a_cap[raised]",
            "tests/http/test_retry.py::test_retry_after_is_honoured[seconds]",
            f"{WATCH}what_the_service_asks_for_is_a_floor[retry-after]",
        ),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a run is sent again behind a proxy's error page",
        "_http.retry:speaks_for_service",
        always(value=True),
        (
            (
                "tests/http/test_retry.py::"
                "test_a_submission_is_repeated_only_where_it_provably_did_not_run[503-by-a-proxy]"
            ),
        ),
    ),
    Mutation(
        "Bounded",
        "no outage is too long",
        "_watch.outage:Outage.give_up_at",
        always(value=None),
        (
            f"{WATCH}an_outage_beyond_the_policy_is_given_up",
            f"{WATCH}a_service_that_was_never_reached_is_given_up_soon[no-connection]",
        ),
    ),
    Mutation(
        "Settled",
        "a wait needs the output",
        "_following.follower:Follower.end_is_known",
        lambda _: property(lambda follower: follower.is_done),
        (
            (
                "tests/contract/test_known_end.py::"
                "test_a_wait_beside_a_watch_needs_no_output[virtual-asyncio]"
            ),
        ),
    ),
    Mutation(
        "Bounded",
        "status checks wait for no turn",
        "_following.rate_limit:RateLimit.turn",
        skipped_async,
        (
            (
                "tests/contract/test_pace.py::"
                "test_tasks_that_start_and_end_together_keep_the_rate[virtual-asyncio]"
            ),
        ),
    ),
    Mutation(
        "Bounded",
        "a line may be endless",
        "_protocol.sse:Framer._check_line",
        SKIPPED,
        ("tests/protocol/test_sse.py::test_an_endless_line_stops_at_the_limit[64-b'x']",),
    ),
    Mutation(
        "Bounded",
        "a slow reader's buffer grows",
        "_following.event_buffer:EventBuffer._make_room",
        lambda _: lambda buffer, item: buffer._buffer.append(item),
        (
            "tests/following/test_event_buffer.py::test_a_slow_reader_loses_progress_only[asyncio]",
            (
                "tests/following/test_event_buffer.py::"
                "test_a_reader_that_never_reads_ends_with_an_error[asyncio]"
            ),
        ),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "leaving the block gives nothing back",
        "_iteration:HeldIterator.__aexit__",
        skipped_async,
        ("tests/whole/test_lifetime.py::test_break_gives_the_connection_back[asyncio]",),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "a read that is cancelled closes the watch",
        "_iteration:HeldIterator._after",
        before(sets(_is_entered=False)),
        (
            f"{READING}a_watch_is_read_on_after_a_read_that_timed_out[virtual-asyncio-move_on_after]",
            (
                f"{READING}merged_events_are_read_on_after_a_read_that_timed_out"
                "[virtual-asyncio-move_on_after]"
            ),
        ),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "an iterator that was closed seems to be at its end",
        "_iteration:HeldIterator.__anext__",
        before(is_over_once_closed),
        (f"{READING}a_closed_iterator_says_so[virtual-asyncio-watch]",),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "a stream that is given up is not closed",
        "_following.follower:Follower.advance",
        before(loses_sight_of_its_stream),
        (
            (
                f"{FOLLOWERS}a_sole_reader_that_leaves_gives_the_connection_back_at_once"
                "[virtual-asyncio]"
            ),
            f"{FOLLOWERS}the_last_of_several_leaves_the_stream_open_for_a_linger[virtual-asyncio]",
        ),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "the remote task is cancelled unasked",
        "_client.streams:Subscription._let_go",
        before(sets(_cancel_on_exit=True)),
        (
            (
                "tests/whole/test_waiting.py::test_leaving_a_watch_cancels_the_task_only_where_asked"
                "[virtual-asyncio-break-not-asked]"
            ),
        ),
    ),
)


# Run as a plugin of pytest.


def pytest_configure() -> None:
    """Apply the mutation that the environment names, before any test is collected."""
    for mutation in MUTATIONS:
        if mutation.what == os.environ.get(CHOSEN):
            mutation.apply()


# Run as a program.


def run_all(mutations: Sequence[Mutation] = MUTATIONS) -> list[str]:
    """Apply each mutation and return what the tests did not notice, in words."""
    everything = sorted({test for mutation in mutations for test in mutation.tests})
    if failed := _failing(everything, None):
        return [f"fails without any mutation: {test}" for test in sorted(failed)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [line for lines in pool.map(_unnoticed, mutations) for line in lines]


def _unnoticed(mutation: Mutation) -> list[str]:
    failed = _failing(mutation.tests, mutation)
    missed = [test for test in mutation.tests if test not in failed]
    print(f"{'MISSED' if missed else 'noticed'}: {mutation.promise}: {mutation.what}", flush=True)
    return [f"{mutation.what}: not noticed by {test}" for test in missed]


def _failing(tests: Sequence[str], mutation: Mutation | None) -> frozenset[str]:
    kept = {name: value for name, value in os.environ.items() if name != "CYBERUN_TEST_BACKENDS"}
    options = ("-q", "-rf", "--tb=no", "-otimeout=30", "-p", "no:cacheprovider")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.mutations", *options, *tests],
        cwd=ROOT,
        env={**kept, CHOSEN: "" if mutation is None else mutation.what},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if run.returncode not in (0, 1):  # not a test that failed, but no run of tests at all
        raise RuntimeError(run.stdout)
    return frozenset(re.findall(r"^FAILED (.+?)(?: - .*)?$", run.stdout, re.MULTILINE))


def main(words: Sequence[str]) -> int:
    chosen = [
        mutation
        for mutation in MUTATIONS
        if not words or any(word in f"{mutation.promise}: {mutation.what}" for word in words)
    ]
    problems = run_all(chosen)
    print("\n".join(problems) or f"{len(chosen)} mutations, each noticed by every test named")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
