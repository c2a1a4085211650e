"""Jobs: what is to be run, read from wherever, and checked before anything is sent."""

import hashlib
import json
import os
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self, cast
from uuid import UUID

import attrs

from .. import InvalidInputError, ParameterError, Workflow, validate
from .._model import refusal


MAX_KEY_CHARACTERS = 200
RUN_OPTIONS = ("dispatch_target", "target_pool", "submitter_region", "tool_type")
_FIELDS = frozenset({"key", "workflow", "parameters", "files", "options"})


@attrs.frozen(kw_only=True)
class Job:
    """
    One run of a batch.

    Nothing is checked here: the batch checks all jobs and reports all faults at once.

    Attributes:
        key:
            Names the job in the ledger, now and in every later run. Of your choice,
            unique within the batch.

        workflow: A slug, ``slug@version``, or a workflow's id.
        parameters: Values by parameter key; anything JSON can hold.
        files: Local files by parameter key; each is uploaded before the submission.
        options: ``dispatch_target`` and the like, passed through.
        source: Where the job stands, such as ``runs.jsonl:17``, for messages.
    """

    key: str
    workflow: str | UUID
    parameters: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)
    files: Mapping[str, str | os.PathLike[str]] = attrs.field(
        factory=dict[str, str | os.PathLike[str]], hash=False
    )
    options: Mapping[str, str] = attrs.field(factory=dict[str, str], hash=False)
    source: str | None = attrs.field(default=None, eq=False)


@attrs.frozen
class JobFault:
    """
    What is wrong with one job.

    Attributes:
        place: Where it stands: its line, or its index counted from 0.
        key: Its key, where it has one.
        problem: What is wrong.
    """

    place: str
    key: str | None
    problem: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.place}{'' if self.key is None else f' ({self.key!r})'}: {self.problem}"


Jobs = Iterable[Job | JobFault] | AsyncIterable[Job | JobFault]


@attrs.frozen
class PreparedJob:
    """A job in the form the ledger keeps."""

    key: str
    place: str
    workflow: str
    parameters: str
    files: str
    options: str

    @classmethod
    def of_key(cls, key: str, place: str) -> Self:
        """Return a job of which nothing is known but its key."""
        nothing = _canonical({})
        return cls(key, place, "", nothing, nothing, nothing)

    @property
    def digest(self) -> str:
        """A fingerprint of all but the key: another one under the same key is another job."""
        parts = (self.workflow, self.parameters, self.files, self.options)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def misfits(self, definition: Workflow) -> list[str]:
        """Return what *definition* has against the parameters."""
        files = {key: Path(path) for key, path in json.loads(self.files).items()}
        try:
            validate(definition, {**json.loads(self.parameters), **files})
        except ParameterError as error:
            return list(error.faults)
        return []

    def missing_files(self) -> list[str]:
        """Return what is wrong with the local files."""
        paths = json.loads(self.files)
        return [fault for key, path in paths.items() if (fault := _file_fault(key, path))]


def read_jobs(path: str | os.PathLike[str]) -> Iterator[Job | JobFault]:
    """
    Read jobs from a file of JSON lines.

    Each line is an object with ``key`` and ``workflow``, and ``parameters``, ``files``
    and ``options`` as needed; empty lines are passed over. A line that is no such
    object is yielded as a :class:`JobFault`, which a batch reports with all others.

    Args:
        path: The file, in UTF-8.

    Raises:
        InvalidInputError: The file cannot be read.
    """
    source = Path(path)
    try:
        with source.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _job_of(line, f"{source.name}:{number}")
    except OSError as error:
        raise InvalidInputError(f"the jobs cannot be read: {error.strerror}: {path}") from error


def _job_of(line: bytes, place: str) -> Job | JobFault:
    try:
        fields = json.loads(line)
    except ValueError as error:
        return JobFault(place, None, f"is no JSON: {error}")
    except RecursionError:
        return JobFault(place, None, "is no JSON: it is nested too deeply")
    if not isinstance(fields, dict):
        return JobFault(place, None, "is no JSON object")
    known = cast("dict[str, Any]", fields)
    if unknown := sorted(known.keys() - _FIELDS):
        return JobFault(place, None, f"has unknown fields: {', '.join(unknown)}")
    if missing := sorted({"key", "workflow"} - known.keys()):
        return JobFault(place, None, f"lacks {' and '.join(missing)}")
    return Job(**known, source=place)


def prepared(job: object, index: int) -> PreparedJob | list[JobFault]:
    """Return *job* in the form the ledger keeps, or all that is wrong with it by itself."""
    if isinstance(job, JobFault):
        return [job]
    if not isinstance(job, Job):
        return [JobFault(f"job {index}", None, f"is no Job but {type(job).__name__}")]
    place = job.source or f"job {index}"
    key_fault = _key_fault(job.key)
    key = None if key_fault else job.key
    values, files = _split(job.parameters, job.files)
    problems = [key_fault, _workflow_fault(job.workflow), _options_fault(job.options), *values[1]]
    problems += files[1]
    if faults := [JobFault(place, key, problem) for problem in problems if problem]:
        return faults
    return PreparedJob(
        key=job.key,
        place=place,
        workflow=str(job.workflow),
        parameters=values[0],
        files=files[0],
        options=_canonical(dict(job.options)),
    )


def _canonical(value: object) -> str:
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_refused
    )


def _refused(value: object) -> Any:
    raise TypeError(f"one value is {refusal(value)}")


AsJson = tuple[str, list[str]]


def _split(given: object, files: object) -> tuple[AsJson, AsJson]:
    """Return parameters and files as JSON, each with what is wrong with it."""
    if not isinstance(given, Mapping):
        return ("{}", [f"parameters must be a mapping, not {type(given).__name__}"]), ("{}", [])
    if not isinstance(files, Mapping):
        return ("{}", []), ("{}", [f"files must be a mapping, not {type(files).__name__}"])
    parameters = dict(cast("Mapping[str, Any]", given))
    named = dict(cast("Mapping[str, str | os.PathLike[str]]", files))
    paths: dict[str, os.PathLike[str]] = {
        key: value for key, value in parameters.items() if isinstance(value, os.PathLike)
    }
    values = {key: value for key, value in parameters.items() if key not in paths}
    twice = [f"{key!r} is among the files and the parameters" for key in named if key in values]
    return _as_json(values), _file_names({**paths, **named}, twice)


def _as_json(values: Mapping[str, Any]) -> AsJson:
    if not all(isinstance(key, str) for key in values):  # pyright: ignore[reportUnnecessaryIsInstance]
        return "{}", ["a key of parameters is no string"]
    try:
        return _canonical(values), []
    except (TypeError, ValueError, RecursionError) as error:
        return "{}", [f"parameters cannot be written as JSON: {error}"]


def _file_names(files: Mapping[str, str | os.PathLike[str]], problems: list[str]) -> AsJson:
    names: dict[str, str] = {}
    for key, path in files.items():
        try:
            name: object = os.fspath(path)
        except TypeError:
            name = None
        if isinstance(name, str) and isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            names[key] = name
        else:
            problems.append(f"the file for {key!r} must be a path, not {type(path).__name__}")
    return _canonical(names), problems


def _key_fault(key: object) -> str | None:
    if not isinstance(key, str):
        return f"the key must be a string, not {type(key).__name__}"
    if not key or len(key) > MAX_KEY_CHARACTERS:
        return f"the key must have 1 to {MAX_KEY_CHARACTERS} characters, not {len(key)}"
    return None if key.isprintable() else "the key has characters that cannot be printed"


def _workflow_fault(workflow: object) -> str | None:
    if isinstance(workflow, UUID) or (isinstance(workflow, str) and workflow):
        return None
    return f"the workflow must be a slug or an id, not {workflow!r}"


def _options_fault(options: object) -> str | None:
    if not isinstance(options, Mapping):
        return f"options must be a mapping, not {type(options).__name__}"
    for name, value in cast("Mapping[object, object]", options).items():
        if name not in RUN_OPTIONS:
            return f"there is no option {name!r}; known: {', '.join(RUN_OPTIONS)}"
        if not isinstance(value, str):
            return f"the option {name!r} must be a string, not {type(value).__name__}"
    return None


def _file_fault(key: str, path: str) -> str | None:
    try:
        with Path(path).open("rb"):
            return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"the file for {key!r} cannot be read: {reason}: {path}"
