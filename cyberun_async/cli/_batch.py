"""The command that runs a file of jobs, and the reading of such files."""

import csv
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import anyio
import attrs
import click

from .. import CyberunClient, InvalidInputError
from ..batch import (
    Batch,
    BatchPolicy,
    BatchReport,
    Job,
    JobFault,
    JobOutcome,
    JobState,
    UncertainSubmissionsError,
    read_jobs,
)
from ._exit_codes import ExitCode
from ._format import clean, values_of
from ._live_table import LiveTable
from ._session import Session, command, service_command
from ._values import value_of


CHOICES = click.Choice(["raise", "resubmit", "skip"])
_DECISIONS = ("resubmit", "skip", "adopt")
_DECIDE = "--decide"
_BY_SEVERITY = (ExitCode.DONE, ExitCode.TRANSFER, ExitCode.FAILED)
# Columns that are not parameters; others begin with one of the prefixes.
_KEY, _WORKFLOW = "key", "workflow"
_FILE, _OPTION = "file:", "option:"
# Spreadsheets write a byte order mark.
_ENCODING = "utf-8-sig"


@attrs.frozen(kw_only=True)
class Plan:
    """What the options of the command say."""

    ledger: str
    durable: bool
    decisions: tuple[str, ...]
    policy: BatchPolicy
    again: tuple[str, ...]

    def resume_command(self, taken: Container[str] = ()) -> str:
        """Return the hint that resumes the batch, without the decisions *taken*."""
        return f"go on with: {command(*_without(taken, self.again))}"


@attrs.define
class _Source:
    """The source of the jobs: a file or, without a path, the ledger."""

    path: str | None
    workflow: str | None
    _read: Sequence[Job | JobFault] | None = attrs.field(default=None, init=False)

    def read_ahead(self) -> None:
        """Read input that may have yet to be typed; a regular file is read when it is needed."""
        if self.path is not None and Path(self.path).exists() and not Path(self.path).is_file():
            self._read = list(jobs_of(self.path, workflow=self.workflow))

    def jobs(self) -> Iterable[Job | JobFault] | None:
        """Return the jobs."""
        if self.path is None or self._read is not None:
            return self._read
        return jobs_of(self.path, workflow=self.workflow)


@click.command(
    epilog="""
    \b
    Jobs, one JSON object a line:
      {"key": "fox-1", "workflow": "text-to-image", "parameters": {"prompt": "a fox"}}
      {"key": "oil-1", "workflow": "image-to-image", "parameters": {"prompt": "in oil"},
       "files": {"input_image": "sketch.png"}}     (on one line)

    \b
    Or CSV, a column per parameter; file:NAME and option:NAME for files and options:
      key,workflow,prompt,steps,file:input_image
      fox-1,text-to-image,a fox,20,

    \b
    Examples:
      cyberun-async batch jobs.jsonl --out pictures
      cyberun-async batch jobs.csv --workflow text-to-image --ledger fox.ledger
      cyberun-async batch jobs.jsonl --report
      cyberun-async batch jobs.jsonl --max-submissions 2      retry failed jobs
      cyberun-async batch jobs.jsonl --decide fox-1=skip --decide fox-2=resubmit
    """
)
@click.argument("jobs", required=False, type=click.Path(dir_okay=False))
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Where every step is recorded. [default: the jobs' name, with .ledger]",
)
@click.option("--workflow", help="For CSV rows without a workflow.")
@click.option(
    "--out", type=click.Path(file_okay=False), metavar="FOLDER", help="Files, a folder per job."
)
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    default=BatchPolicy().concurrency,
    show_default=True,
    help="How many jobs run at once.",
)
@click.option(
    "--max-submissions",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Submissions of a job whose task fails, in all; each one is billed.",
)
@click.option("--fail-fast", is_flag=True, help="Stop at the first job that does not complete.")
@click.option(
    "--cancel-rest", is_flag=True, help="With --fail-fast, cancel the jobs that still run."
)
@click.option(
    "--on-uncertain",
    type=CHOICES,
    default="raise",
    show_default=True,
    help="What to do with a lost submission for which there are candidate tasks.",
)
@click.option(
    "--on-probably-not-submitted",
    type=CHOICES,
    default="raise",
    show_default=True,
    help="What to do with one without candidates.",
)
@click.option(
    _DECIDE,
    "decisions",
    metavar="KEY=CHOICE",
    multiple=True,
    help="The decision for one such job: resubmit, skip, or adopt:TASK.",
)
@click.option("--durable", is_flag=True, help="Sync each step to the disk.")
@click.option("--report", is_flag=True, help="Only print the ledger's report.")
@service_command
def batch(session: Session, *, workflow: str | None, report: bool, **options: Any) -> ExitCode:
    """
    Run the jobs of the file JOBS, and record every step in a ledger.

    The same command, run again, continues where the ledger ends: no job is submitted
    twice. Without JOBS, it continues the jobs of the ledger.
    """
    source = _Source(options["jobs"], workflow)

    async def work(client: CyberunClient) -> ExitCode:
        plan = _plan(session, options)
        if report:
            return await _report(session, client, plan)
        return await _run(session, client, plan, source)

    if report:
        return session.run(work, sends=False)
    return session.run(work, before=source.read_ahead)


def _plan(session: Session, options: Mapping[str, Any]) -> Plan:
    jobs, ledger = options["jobs"], options["ledger"]
    if ledger is None and jobs is None:
        raise InvalidInputError("name a file of jobs, or the --ledger of an earlier batch")
    policy = BatchPolicy(
        concurrency=options["concurrency"],
        max_submissions_per_job=options["max_submissions"],
        fail_fast=options["fail_fast"],
        cancel_rest=options["cancel_rest"],
        on_uncertain=options["on_uncertain"],
        on_probably_not_submitted=options["on_probably_not_submitted"],
        download_to=options["out"],
    )
    return Plan(
        ledger=ledger or str(Path(jobs).with_suffix(".ledger")),
        durable=options["durable"],
        decisions=options["decisions"],
        policy=policy,
        again=session.arguments,
    )


async def _report(session: Session, client: CyberunClient, plan: Plan) -> ExitCode:
    if not await anyio.Path(plan.ledger).exists():
        raise InvalidInputError(f"there is no ledger {plan.ledger}")
    async with Batch(client, plan.ledger) as batch:
        report = await batch.report()
    session.output.report(str(report), _report_record(report))
    return ExitCode.DONE


async def _run(session: Session, client: CyberunClient, plan: Plan, source: _Source) -> ExitCode:
    async with Batch(client, plan.ledger, policy=plan.policy, durable=plan.durable) as batch:
        taken: list[str] = []
        try:
            for text in plan.decisions:
                await _decide(session, batch, text)
                taken.append(text)
            codes = await _outcomes(session, client, source, batch)
        except UncertainSubmissionsError:
            session.output.hint("decide with --decide KEY=resubmit|skip|adopt:TASK and run again")
            raise
        finally:
            session.on_stop(
                f"{batch.progress}; every step is in {plan.ledger}", plan.resume_command(taken)
            )
        report = await batch.report()
    session.output.report(str(report), _report_record(report))
    return max(codes, default=ExitCode.DONE, key=_BY_SEVERITY.index)


async def _outcomes(
    session: Session, client: CyberunClient, source: _Source, batch: Batch
) -> set[ExitCode]:
    """Run the batch to its end and return the codes of its outcomes, each once."""
    codes: set[ExitCode] = set()
    table = LiveTable(keeps_ended=False, names=batch.in_flight, counts=lambda: str(batch.progress))
    with session.output.showing(table, client=client):
        async with batch.run(source.jobs()) as outcomes:
            async for outcome in outcomes:
                codes.add(_code_of(outcome))
                _report_outcome(session, outcome)
    return codes


async def _decide(session: Session, batch: Batch, text: str) -> None:
    """Apply one decision; one that the ledger has already is fine, as commands are repeated."""
    key, sign, decision = text.rpartition("=")
    choice, _, task = decision.partition(":")
    if not sign or choice not in _DECISIONS:
        raise InvalidInputError(
            f"a decision is written KEY=resubmit, KEY=skip or KEY=adopt:TASK, not {text!r}"
        )
    try:
        await batch.decide(key, cast("Any", choice), task=task or None)
    except InvalidInputError:
        fates = (await batch.report()).fates
        if [fate.action for fate in fates if fate.key == key][-1:] != [choice]:
            raise
        session.output.hint(f"the job {key!r} was decided before: {choice}")


def _without(taken: Container[str], arguments: Sequence[str]) -> Iterator[str]:
    """Yield *arguments* without the decisions *taken*."""
    rest = iter(arguments)
    for argument in rest:
        if argument == _DECIDE:
            text = next(rest, "")
            if text not in taken:
                yield from (argument, text)
        elif not argument.startswith(f"{_DECIDE}=") or argument.partition("=")[2] not in taken:
            yield argument


def _code_of(outcome: JobOutcome) -> ExitCode:
    if not outcome.is_completed:
        return ExitCode.FAILED
    return ExitCode.TRANSFER if outcome.error else ExitCode.DONE


def _report_outcome(session: Session, outcome: JobOutcome) -> None:
    if session.output.is_live and outcome.state == JobState.COMPLETED and not outcome.error:
        # The summary counts it; only what needs attention is printed.
        return
    parts = [outcome.key, str(outcome.state)]
    if outcome.is_replayed:
        parts.append("(by an earlier run)")
    if outcome.error:
        parts.append(clean(outcome.error))
    line = " ".join([*parts, *map(str, outcome.files)])
    session.output.report(line, {"type": "outcome", **values_of(outcome)})


def _report_record(report: BatchReport) -> dict[str, Any]:
    return {
        "type": "report",
        "total": report.total,
        "ended": report.ended,
        "counts": {str(state): count for state, count in report.counts.items() if count},
        "fates": [values_of(fate) for fate in report.fates],
    }


def jobs_of(
    path: str | os.PathLike[str], *, workflow: str | None = None
) -> Iterator[Job | JobFault]:
    """
    Read jobs from *path*: CSV by its file name, JSON lines otherwise.

    Args:
        path: The file.
        workflow: The workflow of CSV rows without one.

    Raises:
        InvalidInputError: The file cannot be read.
    """
    if Path(path).suffix.lower() == ".csv":
        return _from_csv(Path(path), workflow)
    return read_jobs(path)


def _from_csv(path: Path, workflow: str | None) -> Iterator[Job | JobFault]:
    try:
        with path.open(encoding=_ENCODING, newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            _check_head(reader.fieldnames or [], path.name, workflow)
            for row in reader:
                yield _job_of(row, f"{path.name}:{reader.line_num}", workflow)
    except OSError as error:
        raise InvalidInputError(f"the jobs cannot be read: {error.strerror}: {path}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} is no CSV in UTF-8: {error}") from error


def _check_head(names: Any, source: str, workflow: str | None) -> None:
    columns = list(names)
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise InvalidInputError(f"{source} has columns twice: {', '.join(twice)}")
    if _KEY not in columns:
        raise InvalidInputError(f"{source} needs a column `key`, which names each job")
    if workflow is None and _WORKFLOW not in columns:
        raise InvalidInputError(f"{source} needs a column `workflow`, or --workflow for all rows")


def _job_of(row: Mapping[Any, Any], place: str, workflow: str | None) -> Job | JobFault:
    """Return the job of one row. An empty cell is a parameter that is not given."""
    key = row[_KEY]
    if None in row:
        return JobFault(place, key or None, "has more cells than there are columns")
    if None in row.values():
        return JobFault(place, key or None, "has fewer cells than there are columns")
    cells: dict[str, str] = {name: cell for name, cell in row.items() if cell != ""}
    slug = cells.pop(_WORKFLOW, workflow)
    if not cells.pop(_KEY, None) or not slug:
        return JobFault(place, key or None, "lacks its key or its workflow")
    files = _with_prefix(cells, _FILE)
    options = _with_prefix(cells, _OPTION)
    parameters = {name: value_of(cell) for name, cell in cells.items()}
    return Job(
        key=key, workflow=slug, parameters=parameters, files=files, options=options, source=place
    )


def _with_prefix(cells: dict[str, str], prefix: str) -> dict[str, str]:
    names = [name for name in cells if name.startswith(prefix)]
    return {name.removeprefix(prefix): cells.pop(name) for name in names}
