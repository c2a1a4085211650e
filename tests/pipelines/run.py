"""Run the example DAG in Airflow, then kill a triggerer; with ``--record`` for the how-to page."""

import os
import subprocess
import sys


if __name__ == "__main__":
    environment = {**os.environ, "CYBERUN_RECORD": "1" if "--record" in sys.argv else ""}
    subprocess.run(["pytest", "tests/pipelines"], check=True, env=environment)
    subprocess.run([sys.executable, "tests/pipelines/triggerer.py"], check=True)
