"""
A pytest plugin that puts httpx2, the maintained fork, in the place of httpx.

``nox -s httpx2`` loads it before anything imports httpx; the fork brings the aliasing.
"""

import httpx2


httpx2.alias_httpx()
