"""The GPU agents that a simulated service shows."""

from collections.abc import Sequence

from .clock import ServiceClock


def agents(running: Sequence[str], clock: ServiceClock) -> list[dict[str, object]]:
    """Return the connected agents, the running tasks being dealt out among them."""
    return [_agent(number, running[number::2], clock) for number in range(2)]


def _agent(number: int, running: Sequence[str], clock: ServiceClock) -> dict[str, object]:
    return {
        "agent_id": f"gpu-node-{number + 1:02}",
        "agent_status": "busy" if running else "idle",
        "agent_labels": ["gpu", "linux"],
        "last_heartbeat": clock.stamp(clock.now()),
        "agent_version": "1.4.0",
        "tool": "comfyui",
        "tool_version": "0.3.40",
        "comfyui_version": "0.3.40",
        "gpu_capacity": 1,
        "running_count": len(running),
        "running_tasks": list(running),
        "platform_arch": "linux/amd64",
        "sync_phase": None,
        "sync_detail": None,
        "sync_percent": None,
        "connected_at": clock.stamp(0.0),
        "tasks_completed": 0,
        "current_task_id": running[0] if running else None,
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
