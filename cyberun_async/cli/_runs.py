"""The commands for single tasks: run, watch, wait, result, cancel."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import click

from .. import (
    CyberunClient,
    CyberunError,
    InvalidInputError,
    TaskResult,
    TaskStatus,
    WaitTimeoutError,
)
from ._exit_codes import Ending, ExitCode, overall
from ._format import as_line, clean, values_of
from ._live_table import LiveTable
from ._output import Output
from ._session import Session, command, service_command
from ._values import object_of, parameters_of


Follower = Callable[[str], Awaitable[str | None]]

seconds = click.FloatRange(min=0, min_open=True)
TASKS = click.argument("tasks", metavar="TASK...", nargs=-1, required=True)
TIMEOUT = click.option(
    "--timeout", type=seconds, metavar="SECONDS", help="Stop waiting after this."
)
OUT = click.option(
    "--out",
    type=click.Path(file_okay=False),
    metavar="FOLDER",
    help="Download the files the task made into it.",
)


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async run text-to-image -p prompt="a fox" -p steps=20 --out pictures
      cyberun-async run image-to-image -p prompt="in oil" -p input_image=@sketch.png
      cyberun-async run text-to-image --parameters run.json --json | jq .status
      id=$(cyberun-async run text-to-image -p prompt="a fox" --detach)
    """
)
@click.argument("workflow")
@click.option(
    "-p",
    "--param",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="A parameter: JSON where VALUE is JSON, text otherwise; @FILE uploads a file, "
    "@@ begins a text with @.",
)
@click.option(
    "--parameters",
    "source",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="JSON object of parameters; - is stdin.",
)
@click.option("--check/--no-check", default=True, help="Check the parameters first (default).")
@click.option("--detach", is_flag=True, help="Print the task's id and do not wait.")
@OUT
@TIMEOUT
@click.option("--cancel-on-exit", is_flag=True, help="Cancel the task on Ctrl-C or on timeout.")
@service_command
def run(
    session: Session,
    workflow: str,
    pairs: tuple[str, ...],
    source: str | None,
    check: bool,
    detach: bool,
    out: str | None,
    timeout: float | None,
    cancel_on_exit: bool,
) -> ExitCode:
    """
    Submit a run of WORKFLOW, follow it to its end, and print what it made.

    WORKFLOW is a slug, slug@version or an id; `cyberun-async workflows` lists them.
    Ctrl-C stops following; the task keeps running, and the command to follow it is printed.
    """
    parameters: dict[str, Any] = {}

    def read() -> None:
        parameters.update(parameters_of(pairs, _base(source)))

    async def work(client: CyberunClient) -> ExitCode:
        session.on_stop(
            f"the run may have been accepted; look before running again: {command('tasks')}"
        )
        task = await client.submit(workflow, parameters, validate=check)
        session.on_stop(*_hints(task.id, is_cancelled=cancel_on_exit))
        line = task.id if detach else f"submitted {task.id}"
        session.has_unprinted_id = True
        session.output.report(line, {"type": "submitted", "task_id": task.id, "workflow": workflow})
        session.has_unprinted_id = False
        if detach:
            return ExitCode.DONE
        with session.output.showing(LiveTable(total=1)):
            status = await followed(
                client, session.output, task.id, timeout=timeout, cancel=cancel_on_exit
            )
        if status == TaskStatus.COMPLETED:
            await deliver(await client.result(task), out, session.output)
        else:
            # Raises what the exit code and the message are made of.
            await client.result(task)
        return ExitCode.DONE

    return session.run(work, before=read)


def _base(source: str | None) -> dict[str, Any]:
    if source is None:
        return {}
    if source == "-":
        return object_of(sys.stdin.buffer.read(), "standard input")
    try:
        return object_of(Path(source).read_bytes(), source)
    except OSError as error:
        raise InvalidInputError(f"{source} cannot be read: {error.strerror}") from error


def _hints(task_id: str, *, is_cancelled: bool) -> list[str]:
    if is_cancelled:
        return [f"task {task_id} was asked to cancel"]
    return [
        f"task {task_id} keeps running and will be billed",
        f"  follow it: {command('watch', task_id)}",
        f"  cancel it: {command('cancel', task_id)}",
    ]


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async watch 0f6c5ed0-0b65-4d5c-9d6a-0a1f6c0e7d11
      cyberun-async watch $id1 $id2 --json
    """
)
@TASKS
@TIMEOUT
@service_command
def watch(session: Session, tasks: tuple[str, ...], timeout: float | None) -> ExitCode:
    """
    Follow tasks to their ends, with progress.

    Lost connections are replaced. Where streaming does not work, status is polled.
    Exits with 0 if all completed.
    """

    async def work(client: CyberunClient) -> ExitCode:
        session.on_stop(f"the tasks keep running; follow them with: {command('watch', *tasks)}")

        async def follow(task_id: str) -> str | None:
            return await followed(client, session.output, task_id, timeout=timeout, cancel=False)

        with session.output.showing(LiveTable(total=len(set(tasks)))):
            return overall(await follow_all(tasks, follow, session.output))

    return session.run(work)


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async wait $id && cyberun-async result $id --out pictures
      cyberun-async wait $id --start-timeout 600 --cancel-on-timeout
    """
)
@TASKS
@TIMEOUT
@click.option(
    "--start-timeout",
    type=seconds,
    metavar="SECONDS",
    help="Stop waiting for a task that is still queued after this.",
)
@click.option("--cancel-on-timeout", is_flag=True, help="Cancel a task that timed out.")
@service_command
def wait(
    session: Session,
    tasks: tuple[str, ...],
    timeout: float | None,
    start_timeout: float | None,
    cancel_on_timeout: bool,
) -> ExitCode:
    """
    Wait until tasks have ended and print their final states, without following progress.

    Exits with 0 if all completed.
    """

    async def work(client: CyberunClient) -> ExitCode:
        session.on_stop(f"the tasks keep running; wait again with: {command('wait', *tasks)}")

        async def follow(task_id: str) -> str | None:
            final = await client.wait(
                task_id,
                timeout=timeout,
                start_timeout=start_timeout,
                cancel_on_timeout=cancel_on_timeout,
            )
            reason = f": {final.error}" if final.error else ""
            record = {"type": "task", **values_of(final)}
            session.output.report(f"{final.id} {final.status}{reason}", record)
            return final.status

        with session.output.showing(LiveTable(total=len(set(tasks)))):
            return overall(await follow_all(tasks, follow, session.output))

    return session.run(work)


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async result $id
      cyberun-async result $id --out pictures
    """
)
@click.argument("task")
@OUT
@TIMEOUT
@service_command
def result(session: Session, task: str, out: str | None, timeout: float | None) -> ExitCode:
    """Wait for TASK and print what it made; with --out, download its files."""

    async def work(client: CyberunClient) -> ExitCode:
        session.on_stop(f"try again with: {command('result', task)}")
        with session.output.showing(LiveTable(total=1)):
            made = await client.result(task, timeout=timeout)
        await deliver(made, out, session.output)
        return ExitCode.DONE

    return session.run(work)


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async cancel $id
      cyberun-async cancel $id1 $id2 --wait
    """
)
@TASKS
@click.option("--wait", "waits", is_flag=True, help="Wait for the final states.")
@TIMEOUT
@service_command
def cancel(
    session: Session, tasks: tuple[str, ...], waits: bool, timeout: float | None
) -> ExitCode:
    """
    Request the cancellation of tasks.

    A task may complete before it is cancelled. With --wait, the final state of each
    task is printed, and a cancelled task counts as success.
    """

    async def work(client: CyberunClient) -> ExitCode:
        async def one(task_id: str) -> str | None:
            if not waits:
                await client.cancel(task_id)
                session.output.report(
                    f"{task_id} asked to cancel", {"type": "cancel_requested", "task_id": task_id}
                )
                return "completed"
            final = await client.cancel_and_wait(task_id, timeout=timeout)
            session.output.report(f"{task_id} {final.status}", {"type": "task", **values_of(final)})
            return final.status

        endings = await follow_all(tasks, one, session.output)
        return overall(_as_wanted(ending) for ending in endings)

    return session.run(work)


def _as_wanted(ending: Ending) -> Ending:
    is_done = ending.status in {"cancelled", "completed"}
    return Ending(task_id=ending.task_id, status="completed") if is_done else ending


async def follow_all(task_ids: Sequence[str], follow: Follower, output: Output) -> list[Ending]:
    """
    Follow all tasks at once and return how each ended, in their order.

    An error of one does not affect the others; it is reported at once.
    """
    endings: dict[str, Ending] = {}

    async def one(task_id: str) -> None:
        try:
            endings[task_id] = Ending(task_id=task_id, status=await follow(task_id))
        except CyberunError as error:
            output.problem(error)
            endings[task_id] = Ending(task_id=task_id, error=error)

    async with anyio.create_task_group() as group:
        for task_id in dict.fromkeys(task_ids):
            group.start_soon(one, task_id)
    return [endings[task_id] for task_id in dict.fromkeys(task_ids)]


async def followed(
    client: CyberunClient,
    output: Output,
    task_id: str,
    *,
    timeout: float | None,
    cancel: bool,
) -> str | None:
    """
    Follow one task and return its final status.

    Raises:
        WaitTimeoutError: It did not end within *timeout* seconds; its cancellation was
            requested with *cancel*.
    """
    with anyio.move_on_after(timeout):
        return await output.follow(client, task_id, cancel_on_exit=cancel)
    token = client.watch(task_id).token()
    raise WaitTimeoutError(
        task_id=token.task_id, timeout=timeout or 0.0, cancel_requested=cancel
    ).with_token(token)


async def deliver(result: TaskResult, out: str | None, output: Output) -> None:
    """Report *result*; download its files into the folder *out*, where given."""
    paths = [] if out is None else await result.download_to(out)
    output.report(_lines(result, paths, is_fetched=out is not None), _record(result, paths))


def _record(result: TaskResult, paths: list[Path]) -> dict[str, Any]:
    return {
        "type": "result",
        "task_id": result.task_id,
        "status": result.record.status,
        "output": result.output,
        "artifacts": [artifact.name for artifact in result],
        "files": paths,
    }


def _lines(result: TaskResult, paths: list[Path], *, is_fetched: bool) -> str:
    if is_fetched:
        return "\n".join(f"saved {path} ({path.stat().st_size} bytes)" for path in paths)
    names = ", ".join(clean(artifact.name) for artifact in result)
    made = f"made {names}" if names else "made no files"
    lines = [made] if not result.output else [made, f"output {as_line(result.output)}"]
    if names:
        lines.append(f"fetch with: {command('result', result.task_id, '--out', 'FOLDER')}")
    return "\n".join(lines)
