"""Ids, slugs, references to workflows, and the paths made of them."""

import re
from typing import Literal
from urllib.parse import quote
from uuid import UUID

import attrs

from .._model import InvalidInputError, Workflow, shown
from .arguments import invalid, text_fault
from .urls import ESCAPED_DOTS, MAX_URL_CHARACTERS


MAX_ID_CHARACTERS = 200


_SLUG_CHARACTERS = range(2, 101)


_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9-]+")


_VERSION = re.compile(r"[1-9][0-9]{0,8}")


_KEY_PREFIX = re.compile(r"(?:sk-|dk-|ak-|eyJ|whsec_)")


# A slug may begin with "ak-"; a random part this long is no word of one.
_KEY_LIKE_SLUG = re.compile(r"(?:sk|dk|ak)-(?:.*-)?[a-z0-9]{20,}")


@attrs.frozen
class WorkflowRef:
    """Which workflow is meant: by id, or by slug and, if pinned, its version."""

    kind: Literal["id", "slug"]
    value: str
    version: int | None = None

    @property
    def text(self) -> str:
        """The reference as written: the id, the slug, or ``slug@version``."""
        return self.value if self.version is None else f"{self.value}@{self.version}"


def is_uuid(text: str) -> bool:
    """Return whether *text* has the shape of a UUID."""
    return _UUID.fullmatch(text) is not None


def task_id_of(text: object) -> str:
    """
    Return the canonical id of a task; a UUID in lower case, anything else as it is.

    Raises:
        InvalidInputError: It cannot be an id; the message names the fault.
    """
    return identifier_of("task id", text)


def identifier_of(what: str, text: object) -> str:
    """
    Return *text* as an id that is safe within a path; *what* names it in messages.

    Raises:
        InvalidInputError: It cannot be an id; the message names the fault.
    """
    if isinstance(text, UUID):
        return str(text)
    if not isinstance(text, str):
        raise invalid(what, f"must be a string or a UUID, not {type(text).__name__}")
    if _KEY_PREFIX.match(text):
        raise invalid(what, "looks like an API key; pass the id itself (nothing was sent)")
    if fault := _identifier_fault(text):
        raise invalid(what, f"{fault}: {shown(text)}" if text else fault)
    return text.lower() if is_uuid(text) else text


def _identifier_fault(text: str) -> str | None:
    if not text:
        return "is empty"
    if len(text) > MAX_ID_CHARACTERS:
        return f"has {len(text)} characters, at most {MAX_ID_CHARACTERS} are possible"
    if not text.isascii():
        return "has characters outside ASCII"
    if text in {".", ".."}:
        return "is a path step, not an id"
    return next((fault for letter in text if (fault := _letter_fault(letter))), None)


def _letter_fault(letter: str) -> str | None:
    if letter == " ":
        return "has a blank in it"
    if letter < " " or letter == "\x7f":
        return "has a control character in it"
    if letter in "/\\?#%":
        return f"has {letter!r} in it"
    return None


def workflow_ref(text: object, slug: bool | None = None) -> WorkflowRef:
    """
    Return which workflow *text* means: an id, a slug, or ``slug@version``.

    A UUID is an id unless *slug* is True; with *slug* False anything is an id.

    Raises:
        InvalidInputError: It can be neither; the message names the fault.
    """
    if isinstance(text, UUID) or slug is False:
        return WorkflowRef("id", identifier_of("workflow id", text))
    if not isinstance(text, str):
        raise invalid("workflow", f"must be a string or a UUID, not {type(text).__name__}")
    if is_uuid(text) and slug is None:
        return WorkflowRef("id", text.lower())
    return _slug_ref(text, forced=slug is True)


def reference_of(workflow: object, *, slug: bool | None = None) -> WorkflowRef:
    """
    Return which workflow is meant; one fetched with its version pinned stays pinned.

    Raises:
        InvalidInputError: It names none.
    """
    if slug is not None and not isinstance(slug, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"slug must be True, False or None, not {type(slug).__name__}")
    if isinstance(workflow, WorkflowRef):
        return workflow
    if not isinstance(workflow, Workflow):
        return workflow_ref(workflow, slug)
    if workflow.pinned and workflow.slug is not None and workflow.version is not None:
        return workflow_ref(f"{workflow.slug}@{workflow.version}", slug=True)
    return workflow_ref(workflow.id, slug=False)


def _slug_ref(text: str, *, forced: bool) -> WorkflowRef:
    value, at, version = text.partition("@")
    if fault := _slug_fault(value):
        raise invalid("workflow slug", f"{fault}: {shown(text)}" if text else "is empty")
    if is_uuid(value) and not forced:
        raise invalid("workflow id", f"cannot be pinned to a version: {shown(text)}")
    if not at:
        return WorkflowRef("slug", value)
    if not _VERSION.fullmatch(version):
        fault = "has a version that is no whole number from 1 on after its '@'"
        raise invalid("workflow slug", f"{fault}: {shown(text)}")
    return WorkflowRef("slug", value, int(version))


def _slug_fault(value: str) -> str | None:
    if _KEY_LIKE_SLUG.match(value) or value.startswith(("eyJ", "whsec_")):
        return "looks like an API key"
    if len(value) not in _SLUG_CHARACTERS:
        return f"has {len(value)} characters, 2 to 100 are possible"
    if not _SLUG.fullmatch(value):
        return "is not lower-case words and digits joined by '-', as text-to-image"
    return None


def quote_segment(text: str) -> str:
    """
    Return *text* encoded so that it stays one segment of a path.

    Raises:
        InvalidInputError: No encoding can keep it one: it is empty, ``.`` or ``..``.
    """
    if _PLAIN_SEGMENT.fullmatch(text):
        return text
    if text in {"", ".", ".."}:
        raise invalid("path segment", f"cannot be {shown(text)}")
    try:
        return quote(text, safe="@")
    except UnicodeEncodeError:
        raise invalid("path segment", f"is no valid text: {shown(text)}") from None


def path_for(*segments: str) -> str:
    """Return the runtime path of *segments*: ``path_for("tasks", id)`` is ``/r/tasks/<id>``."""
    return management_path("r", *segments)


def management_path(*segments: str) -> str:
    """Return the path of *segments* outside the runtime surface, as ``/webhooks/<id>``."""
    return "".join(f"/{quote_segment(segment)}" for segment in segments)


def workflow_path(ref: WorkflowRef, *rest: str) -> str:
    """Return the runtime path of a workflow, followed by *rest* (``run``)."""
    if ref.kind == "id":
        return path_for("workflows", ref.value, *rest)
    return path_for("workflows", "slug", ref.text, *rest)


def raw_path_of(path: object) -> str:
    """
    Return *path* if it is a path below the base URL that nothing in it leads out of.

    Raises:
        InvalidInputError: It is a whole URL, has a query, steps upwards, or is no text.
    """
    if not isinstance(path, str):
        raise invalid("path", f"must be a string, not {type(path).__name__}")
    if fault := _raw_path_fault(path):
        raise invalid("path", f"{fault}: {shown(path)}")
    return path


def _raw_path_fault(path: str) -> str | None:
    if not path.startswith("/") or path.startswith("//"):
        return "must begin with one '/' and name no host"
    if len(path) > MAX_URL_CHARACTERS:
        return f"has {len(path)} characters, at most {MAX_URL_CHARACTERS} are possible"
    if fault := text_fault(path):
        return fault
    if "?" in path or "#" in path:
        return "has a query or fragment; pass the query as params"
    if "%2f" in path.lower() or "%5c" in path.lower():
        return "has an encoded slash in it"
    if any(ESCAPED_DOTS.fullmatch(step) for step in path.split("/")):
        return "has a step '.' or '..' in it"
    return None
