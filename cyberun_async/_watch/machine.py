"""
The decision core of a watch: what a follower of one task does next.

Facts go in, each with the moment at which it happened; the next step comes out, and
events and notices collect in an outbox. There is no await, no clock and no lot in
here: moments are numbers, and draws from 0 to 1 come from a source passed in.

============ ============================ =================================== =================
phase        step the shell must obey     fact it reports back                next phase
============ ============================ =================================== =================
CONNECTING   `Connect`: open the stream   `connected`                         READING
..                                        `lost`                              RESTING, POLLING
..                                        `refused`                           CHECKING, RESTING
..                                        `stream_revoked` (no slot)                 POLLING
READING      `Read`: hand over events     `received`                          READING, DONE
..                                        `lost` (dirty)                      RESTING, POLLING
..                                        `lost` (clean end)                  CHECKING
..                                        `tick` (no byte; stale)             RESTING, POLLING
RESTING      `Sleep`: wait until          `tick`                              CONNECTING
CHECKING       `Check`: wait for the answer   `polled`                            RESTING, POLLING
..                                        `check_failed`                        RESTING, POLLING
POLLING      `Poll`: asks go on           `polled`                            POLLING
..                                        `tick` (climb), `stream_granted`           CONNECTING
any of these asks run beside, by `check_at` `polled` with a terminal state      FETCHING, DONE
..                                        `check_refused`, `tick` (gives up)    DONE
FETCHING     `FetchResult`                `resulted`                          DONE
DONE         `Finish` or `Fail`           -                                   -
============ ============================ =================================== =================

A fact that does not fit the phase comes from a line that was given up, and is ignored.

Decisions, with their reasons:

* Only a *new* event resets the count of losses; a connection or a repeated state does
  not, otherwise a service that accepts and drops would be hammered.
* A stream that ends cleanly without a terminal event is a lost stream, but most likely
  the task has just ended: it is asked about before anything is opened again.
* A status that was already delivered in this attempt, or ranks below the present one,
  is held, and all behind it, until an ask sent after it tells a new attempt
  (``retry_count`` grew) from a repetition. Where none can be had in time, it is delivered
  as unconfirmed.
* What an ask says is believed forward only: a replica may lag, so a lower state with
  the same ``retry_count`` changes nothing.
* A stream is stale when an ask made after it was connected has shown a change that it
  does not deliver within the grace. The first ask of a connection is only the
  baseline, since a service need not replay what happened before.
* Only events that show the task move put off asking. The service's ``error`` event says
  that it cannot see the task, and a repetition may come from anything that only remembers.
* An outage begins with the first failure after the last sign of life, not with the sign:
  a quiet stream and a task that waits for its turn to be asked about are no outage.
"""

import attrs

from .._model import (
    AuthenticationError,
    CancelledEvent,
    CompletedEvent,
    CyberunError,
    FailedEvent,
    NotFoundError,
    PermissionDeniedError,
    RequestRejectedError,
    ResumeToken,
    TaskSnapshot,
    TaskStatus,
    UnknownEndError,
    WatchLostError,
    is_known,
)
from ._stream import StreamedWatch
from .pauses import retry_pause
from .steps import Phase


_RECHECK = 1.0
# Later by so much than it was due, time has passed without this process.
_FROZEN = 5.0
# As long as one status check may take, and its turn before it.
_LAST_CHANCE = 60.0
_GONE = 410
# What the service says of the key or the task, where it is the service that says it.
_ENDING = (AuthenticationError, PermissionDeniedError, NotFoundError)


@attrs.define(kw_only=True)
class Watch(StreamedWatch):
    """The state of following one task. Not safe to share between threads."""

    # Facts about asks.

    def asked(self) -> None:
        """The ask that was due has been sent."""
        self._last_chance_asked = self._last_chance_until is not None
        self._checks.sent()

    def look(self, now: float) -> None:
        """Somebody needs to know the status now: ask, as soon as the service lets us."""
        if not self._is_over():
            self._checks.by(now)

    def rested(self, until: float) -> None:
        """Unless something urges, nothing is to be asked before *until*."""
        if self._checks.at is not None:
            self._checks.put_off(max(self._checks.at, until))

    def polled(self, snapshot: TaskSnapshot, sent_at: float, now: float) -> None:
        """The status came back from an ask sent at *sent_at*."""
        if self._is_over():
            return
        self._return_from_outage(now)
        self._contact(now)
        self._check_failures = 0
        self._refused_since = None
        changed = self._reconcile(snapshot, sent_at, now)
        if not self._is_over():
            self._judge_stream(changed, sent_at, now)
            self._after_check(sent_at, now)

    def check_failed(
        self,
        cause: str,
        now: float,
        *,
        retry_after: float | None = None,
        was_reached: bool = False,
    ) -> None:
        """The ask got no usable answer, if any (*was_reached*)."""
        if self._is_over():
            return
        self._last_cause = cause
        self._check_failures += 1
        self._ever_heard = self._ever_heard or was_reached or retry_after is not None
        self._note_failure(now)
        self._excuse(now, retry_after)
        if self._last_chance_until is not None and self._last_chance_asked:
            self._give_up(now)
            return
        pause = retry_pause(self.policy, self._check_failures, retry_after, self.draw)
        self._checks.hold(now + pause)
        if self.phase is Phase.CHECKING:
            self._retreat(now, retry_after)
        self._checks.by(now + pause)

    def check_refused(self, error: RequestRejectedError, now: float) -> None:
        """The ask was refused, by the service or by something in between."""
        if self._is_over():
            return
        if not error.from_service or not isinstance(error, _ENDING):
            # Not even that the service was reached: whatever answers, knows no such request.
            self.check_failed(str(error), now, retry_after=error.retry_after)
            return
        self._ever_heard = True
        self._last_cause = str(error)
        if self._is_final(error, now):
            self._fail_with(error, now)
        elif self._may_appear(error, now):
            self._checks.by(now + _RECHECK)
        else:
            self._await_confirmation(now)

    def resulted(self, event: CompletedEvent) -> None:
        """The output of a completed task was read, or could not be."""
        if self.phase is Phase.FETCHING:
            self._deliver_end(event)

    def merge_token(self, token: ResumeToken, now: float) -> None:
        """Somebody begins to read here who was told elsewhere what *token* says."""
        if self._is_over() or token.status is None or token.retry_count is None:
            return
        if self._order.learn(token.status, token.retry_count):
            self._status_since = now

    def is_news_to(self, token: ResumeToken) -> bool:
        """Return whether the present status is news to who was told what *token* says."""
        return self._order.is_news(token.status, token.attempt, token.retry_count)

    # Time.

    def tick(self, now: float, last_byte_at: float) -> None:
        """Time has passed; the last byte of the stream came at *last_byte_at*."""
        if self._is_over():
            return
        hold_due, give_up_at = self._hold_due(), self._give_up_at()
        if hold_due is not None and now >= hold_due:
            self._release(now, is_explained=False)
        if give_up_at is not None and now >= give_up_at:
            self._give_up_unless_frozen(now, give_up_at)
        due = None if self._is_over() else self._phase_due(last_byte_at)
        if due is None or now < due:
            return
        if self.phase is Phase.READING:
            self._drop_silent_stream(now, last_byte_at)
        elif self.phase is Phase.CONNECTING:
            self._drop_silent_opening(now)
        elif self.streaming:
            self._connect(now)
        else:
            self._poll_until_granted()
            self._checks.softly(now + self._poll_pause(now))

    def woke(self, now: float) -> None:
        """The machine slept: whatever was known is old, so ask before anything else."""
        if not self._is_over():
            self._last_contact_at = now
            self._trouble_since = None if self._trouble_since is None else now
            self._checks.wake(now)

    def _give_up_unless_frozen(self, now: float, due: float) -> None:
        """Give up; but a process that was stopped meanwhile asks once before."""
        if now - due < _FROZEN or self._last_chance_until is not None:
            self._give_up(now)
            return
        self._last_chance_until = now + _LAST_CHANCE
        self._checks.wake(now)

    def _give_up(self, now: float) -> None:
        error = WatchLostError(
            self._last_cause,
            outage=now - self._last_contact_at,
            snapshot=self.snapshot,
            attempts=self._losses + self._check_failures,
        )
        self._fail_with(error, now)

    def _fail_with(self, error: CyberunError, now: float) -> None:
        """End with *error*, unless what is held holds the end."""
        self._release(now, is_explained=False)
        if not self._is_over():
            self.failed(error)

    # Within: answers.

    def _reconcile(self, snapshot: TaskSnapshot, sent_at: float, now: float) -> bool:
        """Bring what was delivered up to *snapshot*; return whether it knew something new."""
        if self._order.lags(snapshot) and not self._is_sure_end(snapshot, now):
            if sent_at >= self._held_at:
                self._release(now, is_explained=False)
            return False
        self._odd_ends = 0
        self._settle_attempt(snapshot, sent_at, now)
        if not self._order.is_beyond(snapshot):
            self.snapshot: TaskSnapshot | None = snapshot
        if self._is_over():
            return True
        if snapshot.is_terminal:
            self._end_by(snapshot)
            return True
        changed = self._order.catch_up(snapshot.status)
        if changed:
            self._status_since = now
        self._look_for_unknown_end(snapshot, now)
        return changed

    def _look_for_unknown_end(self, snapshot: TaskSnapshot, now: float) -> None:
        """End with a task that is shown as over, twice, in a state that nobody here knows."""
        if snapshot.completed_at is None or is_known(snapshot.status):
            self._unknown_end_since: float | None = None
            return
        if self._unknown_end_since is None:
            self._unknown_end_since = now
        again = self._unknown_end_since + self.policy.confirm_after
        if now < again:
            self._checks.by(again)
            return
        status, error = snapshot.status, snapshot.error
        self._fail_with(
            UnknownEndError(task_id=self.task_id, status=status, error=error, snapshot=snapshot),
            now,
        )

    def _settle_attempt(self, snapshot: TaskSnapshot, sent_at: float, now: float) -> None:
        order = self._order
        is_explained = order.explains(snapshot)
        before = order.attempt
        order.count_attempts(snapshot, is_current=sent_at >= self._status_since)
        # An ask from before the step back knows nothing of it.
        if order.attempt > before or sent_at >= self._held_at or snapshot.is_terminal:
            self._release(now, is_explained=is_explained, answer=snapshot)

    def _is_sure_end(self, snapshot: TaskSnapshot, now: float) -> bool:
        """Return whether an end of an attempt gone by, which cannot be, was told twice."""
        self._odd_ends = self._odd_ends + 1 if snapshot.is_terminal else 0
        if self._odd_ends == 1:
            self._checks.by(now + _RECHECK)
        return self._odd_ends > 1

    def _end_by(self, snapshot: TaskSnapshot) -> None:
        task_id, attempt = self.task_id, self.attempt
        if snapshot.status == TaskStatus.COMPLETED:
            self._fetch()
        elif snapshot.status == TaskStatus.FAILED:
            error = snapshot.error
            self._deliver_end(
                FailedEvent(task_id=task_id, attempt=attempt, origin="poll", error=error)
            )
        else:
            self._deliver_end(CancelledEvent(task_id=task_id, attempt=attempt, origin="poll"))

    def _judge_stream(self, changed: bool, sent_at: float, now: float) -> None:
        since = self._connecting_at if self.phase is Phase.CONNECTING else self._connected_at
        if since is None or sent_at < since:
            return
        if changed and self._baselined and self._stale_at is None:
            self._stale_at = now + self.policy.stale_grace
        self._baselined = True

    def _after_check(self, sent_at: float, now: float) -> None:
        if self.phase is Phase.CHECKING:
            if sent_at < self._checking_since:
                self._checks.by(now)  # sent before the stream ended: it says nothing of now
                return
            self._leave_checking(now)
        self._checks.softly(now + self._pause_after_answer(sent_at, now))

    def _leave_checking(self, now: float) -> None:
        if self._was_polling or self._losses >= self.policy.tries_before_polling:
            self._start_polling(now)
        elif not self.streaming:
            self._poll_until_granted()
        else:
            self._rest(now, max(0.0, self._rest_until - now))

    def _pause_after_answer(self, sent_at: float, now: float) -> float:
        policy, since = self.policy, self._connected_at
        if self.phase is not Phase.READING or self._was_polling:
            return self._poll_pause(now)
        return policy.settle_after if since is None or sent_at < since else policy.check_after

    # Within: refusals.

    def _is_final(self, error: RequestRejectedError, now: float) -> bool:
        """Return whether the service's own *error* ends the watch."""
        if isinstance(error, AuthenticationError) and self.phase is not Phase.READING:
            return True
        if self._refused_since is None:
            self._refused_since: float | None = now
        if self._may_appear(error, now):
            return False
        return now - self._refused_since >= self.policy.confirm_after

    def _may_appear(self, error: RequestRejectedError, now: float) -> bool:
        """Return whether this is likely to be a replica that does not know the task yet."""
        is_not_found = isinstance(error, NotFoundError) and error.status != _GONE
        return is_not_found and now < self.not_found_until

    def _await_confirmation(self, now: float) -> None:
        since = now if self._refused_since is None else self._refused_since
        again = since + self.policy.confirm_after
        self._checks.hold(again)
        if self.phase is Phase.CHECKING:
            self._retreat(now)
        if self.phase is Phase.READING:
            # What the stream brings until then outweighs the refusal.
            self._checks.softly(again)
        else:
            self._checks.by(again)
