"""Run the simulated service by itself: ``python -m cyberun_async.testing``."""

import argparse
import sys
import threading

from . import Simulator


def main() -> int:
    """Print the URL and a key, and serve until interrupted."""
    parser = _parser()
    options = parser.parse_args()
    try:
        simulator = Simulator(speed=options.speed, port=options.port, seed=options.seed)
        simulator.restart()
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.error(f"cannot serve on port {options.port}: {error.strerror}")
    with simulator:
        sys.stdout.write(_greeting(simulator))
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write("\nstopped\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cyberun_async.testing", description="A local Cyberun Cloud."
    )
    parser.add_argument("--port", type=int, default=0, help="where to serve; 0 takes a free port")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="how many times faster than planned tasks live"
    )
    parser.add_argument("--seed", type=int, default=None, help="the same ids and keys each time")
    return parser


def _greeting(simulator: Simulator) -> str:
    run = f"{simulator.url}/r/workflows/slug/text-to-image/run"
    return f"""\
Cyberun Cloud, simulated. Stop it with Ctrl-C.

export CYBERUN_BASE_URL={simulator.url}
export CYBERUN_API_KEY={simulator.key}

curl -X POST {run} \\
     -H "Authorization: Bearer {simulator.key}" \\
     -H "Content-Type: application/json" \\
     -d '{{"parameters": {{"prompt": "a fox"}}}}'

curl -N {simulator.url}/r/tasks/<task_id>/events \\
     -H "Authorization: Bearer {simulator.key}"
"""


if __name__ == "__main__":
    raise SystemExit(main())
