"""One run over httpx2: the fork answers to the name of httpx, for the whole process."""

import asyncio

import httpx2


httpx2.alias_httpx()

# Only now: from here on, this name is the fork's.
import httpx  # noqa: E402

from cyberun_async import CyberunClient  # noqa: E402


async def main() -> None:
    """Run one task with a transport that is the fork's."""
    async with CyberunClient(transport_factory=httpx.AsyncHTTPTransport) as client:
        result = await client.run("text-to-image", {"prompt": "a fox"})
        print(httpx.__name__, [artifact.name for artifact in result])


asyncio.run(main())
