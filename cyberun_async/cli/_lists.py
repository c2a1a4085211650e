"""The commands that list: workflows and tasks."""

from datetime import datetime
from typing import Any

import click

from .. import CyberunClient, ParameterDef, TaskSnapshot, TaskStatus, Workflow
from ._exit_codes import ExitCode
from ._format import clean, values_of
from ._session import Session, service_command


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async workflows
      cyberun-async workflows text-to-image
    """
)
@click.argument("workflow", required=False)
@service_command
def workflows(session: Session, workflow: str | None) -> ExitCode:
    """List the workflows, or show the parameters that WORKFLOW takes."""

    async def work(client: CyberunClient) -> ExitCode:
        if workflow is not None:
            found = await client.workflows.get(workflow)
            session.output.report(_described(found), _workflow_record(found))
            return ExitCode.DONE
        async for each in client.workflows.list():
            session.output.report(_workflow_line(each), _workflow_record(each))
        return ExitCode.DONE

    return session.run(work)


def _workflow_record(workflow: Workflow) -> dict[str, Any]:
    return {"type": "workflow", **values_of(workflow)}


def _workflow_line(workflow: Workflow) -> str:
    version = f"@{workflow.version}" if workflow.version is not None else ""
    name = f"{workflow.slug or workflow.id}{version}"
    return f"{name:<32} {workflow.display_name or ''}".rstrip()


def _described(workflow: Workflow) -> str:
    lines = [_workflow_line(workflow)]
    if workflow.description:
        lines.append(workflow.description)
    lines += [f"  {_parameter_line(each)}" for each in workflow.parameters or ()]
    return "\n".join(lines)


def _parameter_line(parameter: ParameterDef) -> str:
    words = [f"{parameter.key:<20} {parameter.type or '':<8}"]
    words.append("required" if parameter.required else f"default {parameter.default!r}")
    if parameter.min is not None or parameter.max is not None:
        low = "" if parameter.min is None else f"{parameter.min:g}"
        high = "" if parameter.max is None else f"{parameter.max:g}"
        words.append(f"{low}..{high}")
    if parameter.options:
        words.append("one of " + ", ".join(parameter.options))
    return " ".join(words)


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async tasks --status running
      cyberun-async tasks --limit 5 --json
    """
)
@click.option(
    "--status", type=click.Choice([str(status) for status in TaskStatus]), help="Only those."
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many."
)
@service_command
def tasks(session: Session, status: str | None, limit: int) -> ExitCode:
    """List the team's tasks, those of other programs included."""

    async def work(client: CyberunClient) -> ExitCode:
        left = limit
        async for task in client.tasks.list(status=status, per_page=min(limit, 100)):
            session.output.report(_task_line(task), {"type": "task", **values_of(task)})
            left -= 1
            if not left:
                break
        return ExitCode.DONE

    return session.run(work)


def _task_line(task: TaskSnapshot) -> str:
    words = [task.id, f"{task.status:<12}", _timestamp(task.created_at)]
    if task.error:
        words.append(clean(task.error, 80))
    return " ".join(words).rstrip()


def _timestamp(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
