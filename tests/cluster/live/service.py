"""
The simulated service in a process of its own, and what it counted, asked by line.

It answers each line on its standard input with a line of JSON: the tasks that were
submitted, each with the key of its job, in order.
"""

import json
import sys

from cyberun_async.testing import Simulator, TaskPlan


def main() -> None:
    """Serve until standard input ends."""
    plan = TaskPlan(pending=0.02, waiting=0.02, queued=0.02, steps=2, step_seconds=0.1)
    with Simulator(seed=9, default_plan=plan) as sim:
        print(json.dumps({"url": sim.url, "key": sim.key}), flush=True)
        for _ in sys.stdin:
            made = [(str(each.parameters["prompt"]), each.task_id) for each in sim.submissions]
            print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
