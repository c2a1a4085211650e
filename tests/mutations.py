"""
One mechanism after the other switched off, and the tests that have to notice.

A promise is only as good as the test that fails without it. Each entry is a small patch of
the package; ``nox -s mutations`` (this file, run as a program) applies it to a copy, runs the
named tests there, and expects every one of them to fail - after all of them have passed in
an unpatched copy.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs


ROOT = Path(__file__).parents[1]
PACKAGE = "cyberun_async"
SECONDS = 300


@attrs.frozen
class Mutation:
    """
    A mechanism switched off.

    Attributes:
        promise: The title of the promise in docs/guarantees.md that it belongs to.
        what: What is no longer done.
        file: The module, without the package.
        old, new: The text, which occurs once, and what takes its place.
        tests: Tests that pass with the mechanism and fail without it.
    """

    promise: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


WATCH = "tests/watch/test_machine.py::"
VERDICT = "tests/http/test_retry.py::"
HUB = "tests/following/test_followers.py::test_"
REPLAYS = (
    "tests/contract/test_replays_across_attempts.py::"
    "test_a_replay_does_not_dress_an_earlier_attempt_up_as_the_present_one"
)
WAITING = "tests/whole/test_waiting.py::test_"
READING = "tests/contract/test_reading.py::test_"
KNOWN_END = "tests/contract/test_known_end.py::test_"
PACE = "tests/contract/test_pace.py::test_"

MUTATIONS = (
    Mutation(
        "Ordered",
        "a step back is delivered instead of held",
        "_watch/ordering.py",
        "        if self._steps_back(status) or self._may_be_old(status):\n"
        "            self.held = [event]",
        "        if False:\n            self.held = [event]",
        (f"{WATCH}test_a_step_back_is_held_with_all_behind_it",),
    ),
    Mutation(
        "Ordered",
        "a grown count begins no attempt",
        "_watch/ordering.py",
        "            return count > self.retry_count",
        "            return False",
        (f"{WATCH}test_a_check_explains_a_step_back[a-new-attempt-is-told]",),
    ),
    Mutation(
        "Ordered",
        "a replay of an earlier attempt is taken for the present one",
        "_watch/ordering.py",
        "        return self._from_start and 0 < self._parts <= (self.retry_count or 0)",
        "        return False",
        (
            f"{REPLAYS}[virtual-asyncio-None-None-late-while-it-is-queued-again]",
            f"{REPLAYS}[virtual-asyncio-None-None-late-while-it-runs-again]",
        ),
    ),
    Mutation(
        "Ordered",
        "answers of a replica that lags are believed",
        "_watch/ordering.py",
        "        if self._steps_back(status) or status == self.status:\n            self._confirm",
        "        if status == self.status:\n            self._confirm",
        (f"{WATCH}test_an_answer_that_lags_changes_nothing[of-this-attempt]",),
    ),
    Mutation(
        "Settled",
        "an end that an answer shows is not taken",
        "_watch/machine.py",
        "        if snapshot.is_terminal:\n            self._end_by(snapshot)",
        "        if snapshot.is_terminal and self.phase is Phase.READING:\n"
        "            self._end_by(snapshot)",
        (f"{WATCH}test_an_end_that_a_check_shows_ends_the_watch_in_any_phase[failed-polling]",),
    ),
    Mutation(
        "Settled",
        "a task that is over in an unknown state is followed on",
        "_watch/machine.py",
        "        if snapshot.completed_at is None or is_known(snapshot.status):",
        "        if True:",
        (f"{WATCH}test_a_task_that_is_over_in_an_unknown_state_ends_with_its_second_sighting",),
    ),
    Mutation(
        "Settled",
        "nothing is asked when a stream is opened",
        "_watch/machine.py",
        "        # Beside the opening stream: it need not repeat what happened while nobody"
        " listened.\n        self._checks.by(now)",
        "        pass",
        (f"{WATCH}test_each_connection_is_followed_by_a_check",),
    ),
    Mutation(
        "Settled",
        "what comes after the end is taken, too",
        "_watch/machine.py",
        '        """An event was read from the stream."""\n'
        "        if self.phase is not Phase.READING:\n            return",
        '        """An event was read from the stream."""',
        (f"{WATCH}test_every_watch_ends_once[done]",),
    ),
    Mutation(
        "Not twice",
        "a status that equals the last one is news",
        "_watch/ordering.py",
        "        if status == self.status:\n            self._is_level = True",
        "        if False:\n            self._is_level = True",
        (f"{WATCH}test_a_status_is_delivered_once[False]",),
    ),
    Mutation(
        "Not twice",
        "a tick that equals the last one is passed on behind a reconnection",
        "_watch/ordering.py",
        "            if _is_same(event, self.last_progress) or _is_same(event, before):\n"
        "                return Fate.REPEATED",
        "            pass",
        (
            f"{WATCH}test_a_replayed_life_is_dropped_whole",
            "tests/watch/test_ordering.py::test_a_progress_event_behind_a_reconnection[equal]",
        ),
    ),
    Mutation(
        "Not twice",
        "what a reader knows from elsewhere is not learnt",
        "_following/followers.py",
        "            follower.merge_token(token)",
        "            pass",
        (f"{HUB}a_late_reader_that_knows_more_gets_no_less[virtual-asyncio]",),
    ),
    Mutation(
        "Never mute",
        "silence is not asked about",
        "_watch/machine.py",
        "since is None or sent_at < since else policy.check_after",
        "since is None or sent_at < since else 1e9",
        (f"{WATCH}test_silence_of_a_minute_is_checked",),
    ),
    Mutation(
        "Never mute",
        "a stream without a byte is kept",
        "_watch/machine.py",
        "            idle_at = last_byte_at + self.policy.idle_timeout",
        "            idle_at = last_byte_at + 1e9",
        (f"{WATCH}test_every_byte_puts_off_reconnecting",),
    ),
    Mutation(
        "Never mute",
        "a clean end is taken for any other loss",
        "_watch/machine.py",
        "        if clean and not self._checks.is_held(now):",
        "        if False:",
        (f"{WATCH}test_a_clean_end_is_checked_before_anything_is_opened_again",),
    ),
    Mutation(
        "Never mute",
        "the service's own error counts as news of the task",
        "_watch/machine.py",
        "        if isinstance(event, StatusEvent | ProgressEvent):\n"
        "            self._outage.heard(now)",
        "        self._moved(now)\n"
        "        if isinstance(event, StatusEvent | ProgressEvent):\n"
        "            self._outage.heard(now)",
        (f"{WATCH}test_only_events_of_the_task_put_off_checks[trouble-of-the-service]",),
    ),
    Mutation(
        "Switches by itself",
        "repeated loss does not lead to polling",
        "_watch/machine.py",
        "        elif streams.are_exhausted:\n            self._start_polling(now, hint)",
        "        elif False:\n            self._start_polling(now, hint)",
        (f"{WATCH}test_repeated_loss_leads_to_polling[three-losses]",),
    ),
    Mutation(
        "Switches by itself",
        "the way back is tried at an even pace",
        "_watch/stream_attempts.py",
        "        self._climbs += 1",
        "        self._climbs = 0",
        (f"{WATCH}test_the_way_back_is_tried_with_growing_pauses",),
    ),
    Mutation(
        "Switches by itself",
        "a stream that is stale is kept",
        "_watch/stream_attempts.py",
        "            self.stale_at = now + self._policy.stale_grace",
        "            self.stale_at = None",
        (
            f"{WATCH}test_a_stream_that_does_not_bring_what_a_check_saw_is_dropped",
            f"{WATCH}test_a_stream_without_a_single_byte_leads_to_polling_soon",
        ),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a connection resets the backoff",
        "_watch/machine.py",
        "        self._order.opened()\n",
        "        self._order.opened()\n        self.streams.losses = 0\n",
        (f"{WATCH}test_only_a_new_event_resets_the_backoff",),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a refusal of the stream ends the watch",
        "_watch/machine.py",
        "        self.streams.refused()\n        self._check_first(now)",
        "        self.failed(error)",
        (f"{WATCH}test_a_refused_stream_is_judged_by_a_check[403]",),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a proxy's page is taken for the service's word",
        "_watch/machine.py",
        "        if not error.from_service or not isinstance(error, _ENDING):",
        "        if not isinstance(error, _ENDING):",
        (f"{WATCH}test_any_other_refusal_is_an_outage[404-False-polling]",),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a refusal that is said once is final",
        "_watch/machine.py",
        "        return now - self._refused_since >= self.policy.confirm_after",
        "        return True",
        (f"{WATCH}test_a_404_is_checked_once_more",),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a stream that is redirected elsewhere ends the watch",
        "_following/follower.py",
        "        if failure.kind in (FailureKind.TLS, FailureKind.PROXY):",
        "        if failure.kind in (FailureKind.TLS, FailureKind.PROXY, FailureKind.REDIRECT):",
        (
            "tests/following/test_follower.py::test_what_stands_in_the_place_of_a_stream[virtual-asyncio-led-elsewhere]",
        ),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "what the service asks to wait for is ignored",
        "_backoff.py",
        "    if hint is None or hint <= pause:\n        return pause",
        "    if hint is None or hint > 0:\n        return pause",
        (
            "tests/test_backoff.py::test_a_hint_is_a_floor_with_a_cap[raised]",
            "tests/http/test_retry.py::test_retry_after_is_honoured[seconds]",
            f"{WATCH}test_what_the_service_asks_for_is_a_floor[retry-after]",
        ),
    ),
    Mutation(
        "Server trouble is not task trouble",
        "a run is sent again behind a proxy's error page",
        "_http/retry.py",
        "    return reply.status in _DECLINED and speaks_for_service(reply)",
        "    return reply.status in _DECLINED",
        (
            f"{VERDICT}test_a_submission_is_repeated_only_where_it_provably_did_not_run[503-by-a-proxy]",
        ),
    ),
    Mutation(
        "Bounded",
        "no outage is too long",
        "_watch/outage.py",
        "        if limit is None or self.since is None:\n            return None",
        "        if True:\n            return None",
        (
            f"{WATCH}test_an_outage_beyond_the_policy_is_given_up",
            f"{WATCH}test_a_service_that_was_never_reached_is_given_up_soon[no-connection]",
        ),
    ),
    Mutation(
        "Settled",
        "a wait needs the output",
        "_following/follower.py",
        "        self._fetching = True\n        self._notify()",
        "        self._fetching = True",
        (f"{KNOWN_END}a_wait_beside_a_watch_needs_no_output[virtual-asyncio]",),
    ),
    Mutation(
        "Bounded",
        "single status checks take no turn",
        "_following/poller.py",
        "            await self._pace.turn()\n            if self._has(entry)",
        "            if self._has(entry)",
        (f"{PACE}tasks_that_start_and_end_together_keep_the_rate[virtual-asyncio]",),
    ),
    Mutation(
        "Bounded",
        "a line may be endless",
        "_protocol/sse.py",
        "        if size > self._max_line_bytes:",
        "        if False:",
        ("tests/protocol/test_sse.py::test_an_endless_line_stops_at_the_limit[64-b'x']",),
    ),
    Mutation(
        "Bounded",
        "a slow reader's buffer grows",
        "_following/event_buffer.py",
        "        if len(buffer) >= self._capacity or self.has_lost:",
        "        if False:",
        (
            "tests/following/test_event_buffer.py::test_a_slow_reader_loses_progress_only[asyncio]",
            "tests/following/test_event_buffer.py::test_a_reader_that_never_reads_ends_with_an_error[asyncio]",
        ),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "leaving the block gives nothing back",
        "_iteration.py",
        "        traceback: TracebackType | None,\n    ) -> None:\n        await self.aclose()",
        "        traceback: TracebackType | None,\n    ) -> None:\n        pass",
        ("tests/whole/test_lifetime.py::test_break_gives_the_connection_back[asyncio]",),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "a read that is given up closes the watch",
        "_iteration.py",
        "        elif not self._is_entered:",
        "        elif True:",
        (
            f"{READING}a_watch_is_read_on_after_a_read_that_timed_out[virtual-asyncio-move_on_after]",
            f"{READING}merged_events_are_read_on_after_a_read_that_timed_out[virtual-asyncio-move_on_after]",
        ),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "an iterator that was closed seems to be at its end",
        "_iteration.py",
        "            if self._is_over:",
        "            if True:",
        (f"{READING}a_closed_iterator_says_so[virtual-asyncio-watch]",),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "a stream that is given up is not closed",
        "_following/follower.py",
        "            self._stream_scope.cancel()",
        "            pass",
        (
            f"{HUB}a_sole_reader_that_leaves_gives_the_connection_back_at_once[virtual-asyncio]",
            f"{HUB}the_last_of_several_leaves_the_stream_open_for_a_linger[virtual-asyncio]",
        ),
    ),
    Mutation(
        "Yours to stop, and to read on",
        "the remote task is cancelled unasked",
        "_client/streams.py",
        "        if self._cancel_on_exit and self.ended_as is None:",
        "        if self.ended_as is None:",
        (
            f"{WAITING}leaving_a_watch_cancels_the_task_only_where_asked[virtual-asyncio-break-not-asked]",
        ),
    ),
)


def run_all(mutations: Sequence[Mutation] = MUTATIONS) -> list[str]:
    """Apply each mutation and return what the tests did not notice, in words."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        _copy_to(copy)
        everything = sorted({test for mutation in mutations for test in mutation.tests})
        if failed := _failing(copy, everything):
            return [f"fails without any mutation: {test}" for test in sorted(failed)]
        return [line for mutation in mutations for line in _unnoticed(copy, mutation)]


def _copy_to(copy: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
    for name in (PACKAGE, "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)


def _unnoticed(copy: Path, mutation: Mutation) -> Iterator[str]:
    path = copy / PACKAGE / mutation.file
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        failed = _failing(copy, mutation.tests)
    finally:
        path.write_text(whole, encoding="utf-8")
    missed = [test for test in mutation.tests if test not in failed]
    print(f"{'MISSED' if missed else 'noticed'}: {mutation.promise}: {mutation.what}", flush=True)
    yield from (f"{mutation.what}: not noticed by {test}" for test in missed)


def _failing(copy: Path, tests: Sequence[str]) -> frozenset[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "--tb=no", "-o", "timeout=30"]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", *tests],
        cwd=copy,
        env=_environment(copy),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if run.returncode not in (0, 1):  # not a test that failed, but no run of tests at all
        raise RuntimeError(run.stdout)
    return frozenset(re.findall(r"^FAILED (.+?)(?: - .*)?$", run.stdout, re.MULTILINE))


def _environment(copy: Path) -> dict[str, str]:
    # The copy comes before the installed package.
    kept = {name: value for name, value in os.environ.items() if name != "CYBERUN_TEST_BACKENDS"}
    return {**kept, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    problems = run_all()
    print("\n".join(problems) or f"{len(MUTATIONS)} mutations, each noticed by every test named")
    sys.exit(bool(problems))
