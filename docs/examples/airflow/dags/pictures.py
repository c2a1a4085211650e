"""A picture each day: drawn by Cyberun Cloud, then saved to a folder."""

import asyncio
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, get_current_context, task
from cyberun_airflow import CyberunOperator, cyberun_client


# The key is its password.
CONNECTION = "cyberun"


@dag(
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=1)},
    params={"prompt": "a fox in the snow", "folder": "pictures"},
)
def pictures() -> None:
    draw = CyberunOperator(
        task_id="draw",
        workflow="text-to-image",
        parameters={"prompt": "{{ params.prompt }}", "steps": 20},
        conn_id=CONNECTION,
        cancel_on_kill=True,
    )

    @task
    def save(made: dict) -> list[str]:
        # By the id, as the links may have expired by now.
        return asyncio.run(download(made["task_id"], get_current_context()["params"]["folder"]))

    save(draw.output)


async def download(task_id: str, folder: str) -> list[str]:
    async with cyberun_client(CONNECTION) as client:
        result = await client.result(task_id)
        return [str(path) for path in await result.download_to(folder)]


pictures()
