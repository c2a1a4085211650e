"""What the first program of a user relies on."""

from cyberun_async import CyberunClient


async def test_a_run_returns_what_the_task_made(client: CyberunClient) -> None:
    """One call submits a run, waits for its end and returns its output."""
    result = await client.run("text-to-image", {"prompt": "a fox"})
    assert result.output is not None
