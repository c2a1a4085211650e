"""Run the demo in Python's development mode, and fail where it leaves something unclosed."""

import re
import subprocess
import sys


def main() -> int:
    command = [sys.executable, "-W", "error", "-X", "dev", "docs/examples/demo.py"]
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    found = re.findall(r".*(?:Warning|never awaited|Exception ignored).*", run.stdout)
    print("\n".join(found) or run.stdout)
    return run.returncode or bool(found)


if __name__ == "__main__":
    sys.exit(main())
