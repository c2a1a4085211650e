"""Jobs from files: JSON lines as the batch reads them, and CSV with a column per parameter."""

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .. import InvalidInputError
from ..batch import Job, JobFault, read_jobs
from ._values import value_of


# Columns that are no parameter; further ones begin with one of the prefixes.
_KEY, _WORKFLOW = "key", "workflow"
_FILE, _OPTION = "file:", "option:"
# As spreadsheets write it: a mark in front of the first name.
_ENCODING = "utf-8-sig"


def jobs_of(
    path: str | os.PathLike[str], *, workflow: str | None = None
) -> Iterator[Job | JobFault]:
    """
    Read jobs from *path*: CSV where its name ends so, JSON lines otherwise.

    Args:
        path: The file.
        workflow: Of the rows of a CSV file that name none.

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
