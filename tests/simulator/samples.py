"""
What the service says, written by hand from its documentation, and how to compare with it.

A reply agrees with a sample when it has the same fields with values of the same kind;
the values themselves are the sample's own.
"""

import re
from typing import Any, cast


UUID = "0197a0b1-2c3d-7e4f-8a5b-6c7d8e9f0a1b"
MOMENT = "2026-03-01T10:00:05Z"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_LINK = re.compile(r"http://127\.0\.0\.1:\d+/store/\S+[?&]X-Amz-Expires=\d+\S*")


def shape(value: Any) -> Any:
    """Return what kind of value this is, down to the leaves."""
    match value:
        case dict():
            fields = cast("dict[str, Any]", value)
            return {key: shape(part) for key, part in fields.items()}
        case list():
            return _shapes(value)
        case str():
            return _kind_of_text(value)
        case None:
            return "null"
        case _:
            return type(value).__name__


def _shapes(values: list[Any]) -> list[Any]:
    return [shape(value) for value in values]


def _kind_of_text(text: str) -> str:
    kinds = {"uuid": _UUID, "moment": _MOMENT, "link": _LINK}
    found = [kind for kind, pattern in kinds.items() if pattern.fullmatch(text)]
    return found[0] if found else "text" if text else "no text"


LINK = "http://127.0.0.1:9000/store/tasks/x/out_00001_.png?X-Amz-Expires=3600"

RUN_ACCEPTED = {"task_id": UUID}

ERROR = {"error_message": "resource not found"}

CANCELLED = {"is_success": True}

PAGE_META = {"current_page": 1, "per_page": 20, "total_count": 42}

PENDING_ITEM = {
    "id": UUID,
    "workflow_id": UUID,
    "creation_source": "api_key",
    "task_status": "pending",
    "created_at": MOMENT,
    "retry_count": 0,
    "started_at": None,
    "completed_at": None,
    "agent_id": None,
    "gateway_id": None,
    "agent_labels": None,
    "gpu_type": None,
    "dispatch_target": "agent",
    "target_pool": "team",
    "tool_type": "comfyui",
}

PENDING_TASK = {**PENDING_ITEM, "task_error": ""}

RUNNING_TASK = {
    **PENDING_TASK,
    "task_status": "running",
    "started_at": MOMENT,
    "agent_id": "gpu-node-01",
    "gateway_id": "gw-a1b2c3d4",
    "agent_labels": ["gpu", "linux"],
    "gpu_type": "NVIDIA GeForce RTX 4090",
}

COMPLETED_TASK = {**RUNNING_TASK, "task_status": "completed", "completed_at": MOMENT}

FAILED_TASK = {**COMPLETED_TASK, "task_status": "failed", "task_error": "out of memory"}

PENDING_RESULT = {
    "id": UUID,
    "task_status": "pending",
    "task_output": None,
    "download_url": None,
    "download_urls": None,
    "expires_at": None,
    "task_error": "",
    "completed_at": None,
}

LOCAL_RESULT = {
    **PENDING_RESULT,
    "task_status": "completed",
    "task_output": {"storage_key": "tasks/x/out_00001_.png", "image_count": 1},
    "download_url": LINK,
    "expires_at": MOMENT,
    "completed_at": MOMENT,
}

CLOUD_RESULT = {
    **LOCAL_RESULT,
    "task_output": {
        "9.images.0": {"s3_key": "tasks/x/out_00001_.png", "content_type": "image/png"},
        "9.images.1": {"s3_key": "tasks/x/out_00002_.png", "content_type": "image/png"},
    },
    "download_url": None,
    "download_urls": {"9.images.0": LINK, "9.images.1": LINK},
}

FAILED_RESULT = {
    **PENDING_RESULT,
    "task_status": "failed",
    "task_error": "out of memory",
    "completed_at": MOMENT,
}

CANCELLED_RESULT = {**PENDING_RESULT, "task_status": "cancelled", "completed_at": MOMENT}

STATUS_EVENT = {"task_id": UUID, "status": "running", "timestamp": MOMENT}

PROGRESS_EVENT = {
    "task_id": UUID,
    "progress": 0.5,
    "step_current": 10,
    "step_total": 20,
    "current_node": "3",
    "timestamp": MOMENT,
}

NERFSTUDIO_EVENT = {
    "task_id": UUID,
    "progress": 0.5,
    "step_current": 10,
    "step_total": 20,
    "stage": "train",
    "message": "iteration 15000",
    "timestamp": MOMENT,
}

COMPLETED_EVENT = {
    "task_id": UUID,
    "status": "completed",
    "output": {"storage_key": "tasks/x/out_00001_.png", "image_count": 1},
}

FAILED_EVENT = {"task_id": UUID, "status": "failed", "error": "out of memory"}

CANCELLED_EVENT = {"task_id": UUID, "status": "cancelled"}

PARAMETER = {
    "key": "prompt",
    "type": "string",
    "label": "Prompt",
    "description": "What the picture shows",
    "required": True,
    "node_id": "6",
    "field": "text",
}

WORKFLOW: dict[str, Any] = {
    "id": UUID,
    "workflow_slug": "text-to-image",
    "display_name": "Text to image",
    "version": 2,
    "workflow_status": "active",
    "created_at": MOMENT,
    "updated_at": MOMENT,
    "description": "",
    "required_labels": [],
    "task_timeout": 0,
    "max_retries": 2,
    "default_dispatch_target": "agent",
    "required_models": [],
    "tool_type": "comfyui",
}

AGENT: dict[str, Any] = {
    "agent_id": "gpu-node-01",
    "agent_status": "idle",
    "agent_labels": ["gpu", "linux"],
    "last_heartbeat": MOMENT,
    "agent_version": "1.4.0",
    "tool": "comfyui",
    "tool_version": "0.3.40",
    "comfyui_version": "0.3.40",
    "gpu_capacity": 1,
    "running_count": 0,
    "running_tasks": [],
    "platform_arch": "linux/amd64",
    "sync_phase": None,
    "sync_detail": None,
    "sync_percent": None,
    "connected_at": MOMENT,
    "tasks_completed": 0,
    "current_task_id": None,
    "system_stats": {
        "comfyui_version": "0.3.40",
        "pytorch_version": "2.7.0",
        "os_type": "posix",
        "gpu_devices": [
            {
                "device_name": "NVIDIA GeForce RTX 4090",
                "device_type": "cuda",
                "vram_total": 25757220864,
                "vram_free": 24159191040,
            }
        ],
    },
}

PRESIGNED = {
    "file_key": "inputs/x/y/aW1hZ2UvcG5n/fox.png",
    "upload_url": LINK,
    "upload_headers": {"Content-Length": "3", "If-None-Match": "*"},
}

WEBHOOK = {
    "id": UUID,
    "display_name": "Ours",
    "webhook_url": "https://example.test/hook",
    "webhook_secret": "whsec_0123",
    "webhook_events": ["task.completed"],
    "webhook_status": "active",
    "created_at": MOMENT,
    "last_delivered_at": None,
}

WEBHOOK_COMPLETED = {
    "event_type": "task.completed",
    "task_id": UUID,
    "task_status": "completed",
    "task_output": {"storage_key": "tasks/x/out_00001_.png", "image_count": 1},
    "task_error": "",
    "timestamp": MOMENT,
}

WEBHOOK_FAILED = {
    "event_type": "task.failed",
    "task_id": UUID,
    "task_status": "failed",
    "task_output": None,
    "task_error": "out of memory",
    "timestamp": MOMENT,
}
