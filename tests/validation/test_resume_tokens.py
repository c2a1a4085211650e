"""The text of a resume token, written by one process and read by another."""

import json
from datetime import UTC, datetime

import pytest

from cyberun_async import CyberunClient, InvalidInputError, ResumeToken, TaskStatus
from cyberun_async._validation import looks_like_a_token, token_of


TASK = "0197a1b2-0000-7000-8000-00000000abcd"
AT = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
FULL = ResumeToken(
    task_id=TASK,
    status=TaskStatus.RUNNING,
    attempt=2,
    retry_count=1,
    last_event_id="17",
    submitted_at=AT,
)


@pytest.mark.parametrize(
    "token",
    [ResumeToken(task_id=TASK), FULL, ResumeToken(task_id=TASK, status="of tomorrow")],
    ids=["bare", "full", "unknown-status"],
)
def test_a_token_comes_back_from_its_text(token: ResumeToken) -> None:
    """What one process wrote, another reads; what a later version adds is left out."""
    later = json.dumps({"mood": "fine", **json.loads(token.dumps())})

    assert looks_like_a_token(token.dumps())
    assert token_of(token.dumps()) == token
    assert token_of(later) == token


def test_a_status_comes_back_as_the_member_it_was() -> None:
    """A known status is one of the enumeration again."""
    assert token_of(FULL.dumps()).status is TaskStatus.RUNNING


@pytest.mark.parametrize(
    "text",
    [
        *("{", "{}", "{sk-secret}", '{"a": ' * 100_000, '{"task_id": 7}', '{"task_id": "a/b"}'),
        *('{"task_id": "t", "attempt": "2"}', '{"task_id": "t", "attempt": true}'),
        *('{"task_id": "t", "retry_count": -1}', '{"task_id": "t", "submitted_at": "noon"}'),
        *('{"task_id": "sk-secret"}', '{"task_id": "t", "attempt": 0}'),
        '{"task_id": "t", "submitted_at": "2026-03-01T10:00:00"}',
    ],
)
async def test_what_is_no_token_is_refused_before_anything_is_sent(text: str) -> None:
    """The error is one of a wrong argument, and repeats no text that may be a secret."""
    async with CyberunClient("sk-key", base_url="http://127.0.0.1:9") as client:
        with pytest.raises(InvalidInputError) as caught:
            client.watch(text)

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_the_text_of_a_token_is_taken_where_a_task_is() -> None:
    """A watch made from the text stands where the token stood."""
    async with CyberunClient("sk-key", base_url="http://127.0.0.1:9") as client:
        assert client.watch(FULL.dumps()).token() == FULL
        assert client.handle(FULL.dumps()).id == TASK
        assert client.handle(FULL.dumps()).submitted_at == AT
