"""Tests in a real browser have a session of their own, which names the browser."""

import os


collect_ignore_glob = [] if os.environ.get("CYBERUN_BROWSER") else ["test_*.py"]
