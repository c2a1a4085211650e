"""A service in a process of its own, clients that may stop themselves, and the final account."""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import attrs

from cyberun_async import CyberunClient, Limits
from cyberun_async.batch import BatchPolicy, Job
from cyberun_async.cluster import ClusterReport


JOBS: Final = 90
PATIENCE: Final = 45.0

# All run on one clock, so that nothing but the fate of a job itself is a candidate for it.
POLICY: Final = BatchPolicy(
    concurrency=12,
    on_uncertain="resubmit",
    on_probably_not_submitted="resubmit",
    clock_skew=0.2,
    settle_time=1.0,
)


def jobs(count: int = JOBS) -> Iterator[Job]:
    """Yield the jobs; each prompt is its job's key, so that the service's tasks tell it."""
    for number in range(count):
        key = f"job-{number:03}"
        yield Job(key=key, workflow="text-to-image", parameters={"prompt": key, "steps": 1})


@attrs.define
class Service:
    """The service as the tests see it: where it is, and what it counted."""

    process: "subprocess.Popen[str]"
    url: str = ""
    key: str = attrs.field(default="", repr=False)

    def tasks(self) -> dict[str, list[str]]:
        """Return the tasks that were made for each job, by its key."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("count\n")
        self.process.stdin.flush()
        made: dict[str, list[str]] = defaultdict(list)
        for key, task_id in json.loads(self.process.stdout.readline()):
            made[key].append(task_id)
        return made


@contextmanager
def running_service() -> Iterator[Service]:
    """Start the service, and end it."""
    command = [sys.executable, str(Path(__file__).with_name("service.py"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield Service(process, **json.loads(process.stdout.readline()))
        finally:
            process.kill()


def connecting(trap: Path | None = None) -> Callable[[Limits], CyberunClient]:
    """
    Return what makes the clients of workers.

    With a *trap*, the first worker that is about to send its third submission, with the
    intent written and the lease found standing, stops itself there as SIGSTOP does. It
    leaves its process and the job's key in that file.
    """

    # All of it within one function, which travels to the workers whole.
    def connect(limits: Limits) -> Any:
        import os
        import signal

        from cyberun_async import CyberunClient, WatchPolicy
        from cyberun_async.batch._submitting import Submitter

        original = Submitter.__dict__["_send"]
        sent = 0

        async def stopping(self: Any, row: Any, *args: Any) -> Any:
            nonlocal sent
            sent += 1
            if sent == 3 and trap is not None and not trap.exists():
                with trap.open("x") as reported:
                    reported.write(f"{os.getpid()} {row.key}")
                os.kill(os.getpid(), signal.SIGSTOP)
            return await original(self, row, *args)

        if trap is not None:
            setattr(Submitter, "_send", stopping)  # noqa: B010 - of another type
        return CyberunClient(limits=limits, watch_policy=WatchPolicy(poll_interval=0.2))

    return connect


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait in a thread until *condition* holds."""

    def wait() -> None:
        ends = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < ends, f"the time was up before {what}"
            time.sleep(0.05)

    await anyio.to_thread.run_sync(wait)


def unreported(made: dict[str, list[str]], report: ClusterReport) -> list[str]:
    """Compare the service's own count with the report: what was doubled and is not named."""
    overtaken = {each.task_id for each in report.overtaken}
    candidates = {task for fate in report.fates for task in fate.candidates}
    reported = str(report)
    return [
        f"{key} became {tasks}, and the report does not name it"
        for key, tasks in made.items()
        if len(tasks) > 1
        and (f"job {key!r}" not in reported or not set(tasks) & (overtaken | candidates))
    ]


def is_alive(process: int) -> bool:
    """Return whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
