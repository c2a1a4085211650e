"""The workflows a simulated service offers, and the check of a run's parameters."""

from collections.abc import Mapping, Sequence
from typing import cast

import attrs


@attrs.frozen
class Workflow:
    """One version of a workflow; *parameters* are definitions as on the wire."""

    id: str
    slug: str
    display_name: str
    version: int
    parameters: tuple[Mapping[str, object], ...] = ()
    tool_type: str = "comfyui"
    description: str = ""
    status: str = "active"
    required_labels: tuple[str, ...] = ()
    max_retries: int = 2


class Catalogue:
    """All versions of all workflows, the last version of each being the current one."""

    def __init__(self) -> None:
        self._versions: dict[str, list[Workflow]] = {}
        self._slugs: dict[str, str] = {}

    def add(self, workflow: Workflow) -> None:
        """Add a workflow, or the next version of a known one."""
        versions = self._versions.setdefault(workflow.slug, [])
        versions.append(workflow)
        self._slugs[workflow.id] = workflow.slug

    def current(self) -> list[Workflow]:
        """Return the current version of each workflow."""
        return [versions[-1] for versions in self._versions.values()]

    def by_id(self, workflow_id: str) -> Workflow | None:
        """Return the current version of the workflow with this id."""
        slug = self._slugs.get(workflow_id)
        return None if slug is None else self._versions[slug][-1]

    def by_slug(self, reference: str) -> Workflow | None:
        """Return what `slug` or `slug@version` names."""
        slug, at, version = reference.partition("@")
        versions = self._versions.get(slug, [])
        if not at:
            return versions[-1] if versions else None
        return next((one for one in versions if str(one.version) == version), None)


def defaults(ids: Sequence[str]) -> list[Workflow]:
    """Return the workflows of a fresh simulator, with the given ids."""
    text, image, nerf = ids
    return [
        Workflow(text, "text-to-image", "Text to image", 1, (_PROMPT, _STEPS)),
        Workflow(text, "text-to-image", "Text to image", 2, _TEXT_TO_IMAGE),
        Workflow(image, "image-to-image", "Image to image", 1, _IMAGE_TO_IMAGE),
        Workflow(nerf, "scene-reconstruction", "Scene reconstruction", 1, _NERF, "nerfstudio"),
    ]


def fault_of_parameters(
    workflow: Workflow, parameters: Mapping[str, object], files: Mapping[str, object]
) -> str | None:
    """Return what is wrong with *parameters*, or None."""
    for definition in workflow.parameters:
        key = str(definition["key"])
        if parameters.get(key) is None:
            if definition.get("required"):
                return f"parameter {key!r} is required"
            continue
        fault = _fault_of_value(definition, parameters[key], files)
        if fault is not None:
            return f"parameter {key!r} {fault}"
    return None


def _fault_of_value(
    definition: Mapping[str, object], value: object, files: Mapping[str, object]
) -> str | None:
    match definition.get("type"):
        case "string" if not isinstance(value, str):
            return "must be a string"
        case "boolean" if not isinstance(value, bool):
            return "must be a boolean"
        case "number":
            return _fault_of_number(definition, value)
        case "select" if value not in _options(definition):
            return "is not one of its options"
        case "file" if value not in files:
            return "names no uploaded file"
        case _:
            return None


def _fault_of_number(definition: Mapping[str, object], value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    low, high = definition.get("min"), definition.get("max")
    if isinstance(low, int | float) and value < low:
        return f"must be at least {low}"
    if isinstance(high, int | float) and value > high:
        return f"must be at most {high}"
    return None


def _options(definition: Mapping[str, object]) -> Sequence[object]:
    options = definition.get("options")
    return cast("Sequence[object]", options) if isinstance(options, list | tuple) else ()


def _parameter(key: str, kind: str, label: str, **fields: object) -> Mapping[str, object]:
    return {"key": key, "type": kind, "label": label, "required": False, **fields}


_PROMPT = _parameter(
    *("prompt", "string", "Prompt"),
    description="What the picture shows",
    required=True,
    node_id="6",
    field="text",
)
_STEPS = _parameter(
    "steps", "number", "Steps", default=20, min=1, max=150, node_id="3", field="steps"
)
_SEED = _parameter("seed", "number", "Seed", default=0, min=0, node_id="3", field="seed")
_STYLES = ["photo", "anime", "sketch"]
_STYLE = _parameter(
    "style", "select", "Style", default="photo", options=_STYLES, node_id="7", field="text"
)
_HIGH_RES = _parameter(
    "upscale", "boolean", "Upscale", default=False, node_id="11", field="enabled"
)
_IMAGES = ["image/png", "image/jpeg"]
_INPUT_IMAGE = _parameter(
    "input_image", "file", "Input image", required=True, accept=_IMAGES, node_id="10", field="image"
)
_VIDEO = _parameter("video", "file", "Video", accept=["video/mp4"], target_path="process_data.data")
_MAX_ITERATIONS = "max_num_iterations"
_ITERATIONS = _parameter(
    *(_MAX_ITERATIONS, "number", "Iterations"),
    default=30000,
    min=1,
    target_path=f"train.{_MAX_ITERATIONS}",
)
_TEXT_TO_IMAGE = (_PROMPT, _STEPS, _SEED, _STYLE, _HIGH_RES)
_IMAGE_TO_IMAGE = (_PROMPT, _INPUT_IMAGE, _STEPS, _SEED)
_NERF = (_VIDEO, _ITERATIONS)
