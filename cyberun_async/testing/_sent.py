"""Assertions on what a program sent to the simulated service."""

from collections import Counter
from collections.abc import Mapping, Sequence

import attrs

from ._simulator.records import RecordedRequest, Submission


_SECRETS = ("sk-", "dk-", "eyJ")


@attrs.frozen
class Sent:
    """
    What the service has received so far, and assertions on it.

    A snapshot; each assertion that fails says what was received instead.

    Attributes:
        requests: All requests, in order.
        submissions: The runs that were accepted, in order.
    """

    requests: Sequence[RecordedRequest]
    submissions: Sequence[Submission]

    def count(self, endpoint: str) -> int:
        """Return how many requests went to *endpoint* (``events``, ``task``, ``run``, ...)."""
        return sum(request.endpoint == endpoint for request in self.requests)

    def assert_run_once(
        self, workflow: str, parameters: Mapping[str, object] | None = None
    ) -> Submission:
        """One run of *workflow* was accepted, with at least these *parameters*; return it."""
        found = [
            run
            for run in self.submissions
            if run.workflow_slug == workflow
            and (parameters or {}).items() <= dict(run.parameters).items()
        ]
        if len(found) != 1:
            raise AssertionError(
                f"{len(found)} runs of {workflow!r} with {dict(parameters or {})!r} were accepted; "
                f"in all: {[(run.workflow_slug, dict(run.parameters)) for run in self.submissions]}"
            )
        return found[0]

    def assert_nothing_run(self) -> None:
        """No run was accepted."""
        if self.submissions:
            slugs = [run.workflow_slug for run in self.submissions]
            raise AssertionError(f"{len(slugs)} runs were accepted: {slugs}")

    def assert_no_run_twice(self) -> None:
        """No two accepted runs have the same workflow and parameters."""
        seen = Counter(
            (r.workflow_slug, repr(sorted(r.parameters.items()))) for r in self.submissions
        )
        if twice := [key for key, count in seen.items() if count > 1]:
            raise AssertionError(f"submitted more than once: {twice}")

    def assert_cancelled(self, task_id: str) -> None:
        """The task was asked to cancel."""
        asked = [r.task_id for r in self.requests if r.endpoint == "cancel"]
        if task_id not in asked:
            raise AssertionError(f"task {task_id} was not asked to cancel; asked were {asked}")

    def assert_asked_at_most(self, endpoint: str, times: int) -> None:
        """No more than *times* requests went to *endpoint*."""
        if (count := self.count(endpoint)) > times:
            raise AssertionError(f"{count} requests to {endpoint!r}, more than {times}")

    def assert_keys_stayed_home(self) -> None:
        """No request to the object store carried a credential."""
        for request in self.requests:
            if request.endpoint in {"download", "upload"}:
                values = " ".join(request.headers.values())
                if any(f" {mark}" in f" {values}" for mark in _SECRETS):
                    raise AssertionError(f"a credential went to the object store: {request.path}")
