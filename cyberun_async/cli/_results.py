"""Telling what a task made, and fetching it."""

from pathlib import Path
from typing import Any

from .. import TaskResult
from ._format import as_line, clean
from ._output import Output
from ._session import command


async def deliver(result: TaskResult, out: str | None, output: Output) -> None:
    """Tell what *result* holds; download its files into the folder *out*, where given."""
    paths = [] if out is None else await result.download_to(out)
    output.tell(_lines(result, paths, is_fetched=out is not None), _record(result, paths))


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
