"""
Kill a batch of 500 jobs again and again, and look at what comes of it in the end.

``python tests/kills/run.py --kills 20``; the simulator runs here, the batch in a child
process that is ended with SIGKILL and started again. Afterwards every job has to have one
recorded outcome, the simulator's count must know of no task beyond those that the ledger
has or reports, and every file has to be whole.

The batch reaches its service over TLS, through a proxy that passes bytes on and ends some
connections before, in and after the handshake.
"""

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import attrs

from cyberun_async.testing import Simulator, TaskPlan, faults


# Behind everything else, so that it is the installed package which is killed.
sys.path.append(str(Path(__file__).parents[2]))
from tests.contract.tls import (
    HANDSHAKE_CUTS,
    HANDSHAKE_STALLS,
    Authority,
    Cut,
    Cutter,
    cutting,
)


JOBS: Final = 500
CHILD: Final = Path(__file__).with_name("child.py")
PATIENCE: Final = 120.0
CUTS: Final = {
    **HANDSHAKE_CUTS,
    **HANDSHAKE_STALLS,
    "after the handshake": Cut(1000, "fin"),
    "within the first answer": Cut(1500, "reset"),
    "within later answers": Cut(6000, "fin"),
}

# Where the kills fall, in turn. In those called "sent" the request has left, and the
# simulator holds its answer ("late": the request, for a while, so that its task comes to
# be after the kill).
MOMENTS: Final = (
    *("sent", "intent committed", "rename", "sent", "follow", "sent late", "download"),
    *("sent", "intent uncommitted", "renamed", "sent", "follow", "sent late", "download"),
    *("sent", "answer read", "rename", "sent", "follow", "intent committed"),
)


@attrs.define
class Stage:
    """The service, the ledger and the folder, which outlive every child."""

    sim: Simulator
    cutter: Cutter
    authority: Path
    ledger: Path
    out: Path
    chance: random.Random

    def start(self, *more: str) -> "subprocess.Popen[str]":
        """Start the batch."""
        env = {
            **os.environ,
            "CYBERUN_BASE_URL": self.cutter.url + urlsplit(self.sim.url).path,
            "CYBERUN_API_KEY": self.sim.key,
            "SSL_CERT_FILE": str(self.authority),
        }
        # Each start meets some of them.
        self.cutter.cut_next(*self._cuts())
        command = [sys.executable, str(CHILD), str(self.ledger), str(self.out), *more]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    def _cuts(self) -> list[Cut | None]:
        names = self.chance.sample(sorted(CUTS), k=4)
        cuts: list[Cut | None] = [CUTS[name] for name in names]
        cuts += [None] * 6
        self.chance.shuffle(cuts)
        return cuts

    def ask(self, sql: str) -> list[tuple[str, ...]]:
        """Ask the ledger, which must be readable at any time."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def orphans(self) -> set[str]:
        """Return the tasks of which the ledger does not know that they are its own."""
        known = {row[0] for row in self.ask("SELECT task_id FROM submissions")}
        return {each.task_id for each in self.sim.submissions} - known


def content(prompt: str) -> bytes:
    """Return what the file of a job holds."""
    return f"{prompt}\n".encode() * 20_000


def plan(prompt: str) -> TaskPlan:
    """Return a short life with a file."""
    return TaskPlan(
        pending=0.02,
        waiting=0.02,
        queued=0.02,
        step_seconds=0.05,
        file_content=content(prompt),
    )


# One kill


def wait_for(child: "subprocess.Popen[str]", condition: Callable[[], bool], what: str) -> None:
    """Wait until *condition* holds while the child lives."""
    ends = time.monotonic() + PATIENCE
    while not condition():
        if child.poll() is not None or time.monotonic() > ends:
            message = f"the batch ended or the time was up before {what}"
            raise RuntimeError(message)
        time.sleep(0.002)


def outcomes(child: "subprocess.Popen[str]", number: int) -> None:
    """Wait for so many new outcomes."""
    assert child.stdout is not None
    for _ in range(number):
        if not child.stdout.readline():
            message = "the batch ended before it was killed"
            raise RuntimeError(message)


def held(stage: Stage, action: faults.Action, endpoint: faults.Endpoint, skip: int) -> None:
    """Start the batch, and kill it while the simulator holds one of its requests."""
    rule = stage.sim.faults.add(endpoint, action, skip=skip)
    child = stage.start()
    try:
        wait_for(child, lambda: rule.fired > 0, f"{endpoint} was held")
    finally:
        kill(child)
        stage.sim.faults.clear()


def kill(child: "subprocess.Popen[str]") -> None:
    """End the child with SIGKILL, unless it has ended itself so."""
    child.send_signal(signal.SIGKILL)
    child.communicate()


def strike(stage: Stage, moment: str) -> str:
    """Run the batch, kill it at *moment*, and say what that left behind."""
    number = stage.chance.randint(15, 30)
    before = stage.orphans() if stage.ledger.exists() else set[str]()
    match moment:
        case "sent":
            # An answer that is never given: only the service knows the task.
            held(stage, faults.hold(after=3600), "run", number)
        case "sent late":
            held(stage, faults.hold(before=0.5), "run", number)
            time.sleep(0.6)
        case "download":
            held(stage, faults.hold(after=3600), "download", number)
        case "follow":
            child = stage.start()
            outcomes(child, number)
            kill(child)
        case trap:
            child = stage.start("--trap", trap, "--at", str(number))
            child.communicate(timeout=PATIENCE)
            if child.returncode != -signal.SIGKILL:
                message = f"the trap {trap!r} was never reached"
                raise RuntimeError(message)
    fresh = stage.orphans() - before
    if moment.startswith("sent") and not fresh:
        message = "the kill did not fall between request and answer"
        raise RuntimeError(message)
    states = stage.ask("SELECT state, count(*) FROM jobs GROUP BY state ORDER BY state")
    reported = ", ".join(f"{count} {state}" for state, count in states)
    return f"{len(fresh)} tasks of unknown owner; {reported}"


# What comes of it


def problems(stage: Stage, summary: dict[str, object]) -> Iterator[str]:
    """Say everything that is not as promised."""
    keys = [f"job-{index:04}" for index in range(JOBS)]
    if sorted(_strings(summary["outcomes"])) != keys:
        yield "the last run did not tell one outcome for each job"
    rows = stage.ask("SELECT key, state FROM jobs ORDER BY key")
    if rows != [(key, "completed") for key in keys]:
        yield f"the ledger has other jobs or states: {Counter(row[1] for row in rows)}"
    yield from _unreported(stage, str(summary["report"]))
    yield from _partial_files(stage, keys)


def _strings(value: object) -> Sequence[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _unreported(stage: Stage, report: str) -> Iterator[str]:
    """Compare the simulator's own count with the ledger's and with the report."""
    made: dict[str, set[str]] = {}
    for each in stage.sim.submissions:
        made.setdefault(str(each.parameters["prompt"]), set()).add(each.task_id)
    noted = stage.ask("SELECT j.key, s.task_id FROM submissions s JOIN jobs j ON j.number = s.job")
    fates = stage.ask("SELECT key, candidates FROM unconfirmed_submissions")
    for key, tasks in made.items():
        own = {task for job, task in noted if job == key}
        named = [candidates for job, candidates in fates if job == key]
        for task in tasks - own:
            if not any(task in (candidates or "") for candidates in named):
                yield f"task {task} of {key} is in no report"
        if len(tasks) > 1 and f"job {key!r}" not in report:
            yield f"{key} was submitted {len(tasks)} times and the report does not name it"
    strangers = {task for _, task in noted if task} - {t for ts in made.values() for t in ts}
    if strangers:
        yield f"the ledger has tasks that the service does not know: {strangers}"


def _partial_files(stage: Stage, keys: Sequence[str]) -> Iterator[str]:
    expected = {key: content(key) for key in keys}
    for path in stage.out.rglob("*"):
        if path.is_file() and path.read_bytes() != expected.get(path.parent.name):
            yield f"{path.relative_to(stage.out)} is partial, or of another job"
    rows = stage.ask("SELECT key, path FROM downloads")
    if sorted(key for key, _ in rows) != list(keys):
        yield "the ledger does not have one file for each job"
    on_disk = sorted(str(path) for path in stage.out.rglob("*") if path.is_file())
    if on_disk != sorted(path for _, path in rows):
        yield "the folder holds other files than the ledger says"


# All of it


def run(kills: int, seed: int, folder: Path) -> list[str]:
    """Kill so often, then run to the end, and return what is wrong."""
    chosen = [MOMENTS[number % len(MOMENTS)] for number in range(kills)]
    authority = Authority()
    with (
        Simulator(seed=seed, tls=authority.server_context()) as sim,
        cutting(urlsplit(sim.url).port or 0) as cutter,
    ):
        sim.plan_by(lambda run: plan(str(run.parameters["prompt"])))
        bundle = authority.write_bundle(folder / "authority.pem")
        stage = Stage(
            *(sim, cutter, bundle, folder / "runs.sqlite", folder / "out", random.Random(seed))
        )
        for number, moment in enumerate(chosen, 1):
            print(f"kill {number:2} at {moment:18}: {strike(stage, moment)}", flush=True)
        child = stage.start()
        output, _ = child.communicate(timeout=PATIENCE)
        if child.returncode:
            return [f"the last run ended with {child.returncode}"]
        summary = json.loads(output.splitlines()[-1])
        found = list(problems(stage, summary))
        _conclude(stage, chosen, summary)
    return found


def _conclude(stage: Stage, chosen: Sequence[str], summary: dict[str, object]) -> None:
    sent = sum(moment.startswith("sent") for moment in chosen)
    tasks = len(stage.sim.submissions)
    print(f"{len(chosen)} kills, {sent} of them between request and answer")
    cuts = Counter(stage.cutter.struck)
    print(
        f"{stage.cutter.connections} connections over TLS, {len(stage.cutter.struck)} cut,", end=""
    )
    print(f" in {len(cuts)} of {len(CUTS)} ways")
    print(f"{JOBS} jobs, {tasks} tasks, of which {len(stage.orphans())} are unconfirmed")
    verdicts = stage.ask(
        "SELECT verdict, action, count(*) FROM unconfirmed_submissions GROUP BY verdict, action"
    )
    for verdict, action, count in verdicts:
        print(f"{count} unconfirmed submissions: {verdict} -> {action}")


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description="Kill a batch and take it up again.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = run(options.kills, options.seed, Path(folder))
    print(f"took {time.monotonic() - began:.0f} s")
    for problem in found:
        print(f"WRONG: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
