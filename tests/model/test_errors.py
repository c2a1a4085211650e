"""Every error travels between processes, says what to do, and belongs to one tree."""

import copy
import inspect
import pickle
import re
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

import attrs
import pytest

import cyberun_async
from cyberun_async import (
    AuthenticationError,
    ClientClosedError,
    ClientStateError,
    ConfigurationError,
    CyberunError,
    DetachedHandleError,
    InvalidInputError,
    NotFoundError,
    ParameterError,
    PermissionDeniedError,
    RateLimitedError,
    RequestRejectedError,
    ResultExpiredError,
    ResumeToken,
    ServiceUnavailableError,
    SlowReaderError,
    SubmissionTimeoutError,
    SubmissionUncertainError,
    TaskCancelledError,
    TaskEndedError,
    TaskFailedError,
    TaskNotFoundError,
    TaskSnapshot,
    TransferError,
    UnexpectedResponseError,
    UnknownEndError,
    WaitTimeoutError,
    WatchLostError,
    WebhookVerificationError,
    WrongEventLoopError,
)
from cyberun_async._model import WebhookEvent, errors as _errors
from cyberun_async.webhooks._verify import RepeatedDeliveryError


TASK = "0197a1b2-0000-7000-8000-00000000abcd"
SNAPSHOT = TaskSnapshot(id=TASK, status="running", raw=b'{"a": 1}')
TOKEN = ResumeToken(task_id=TASK, status="running", attempt=2)
SENT = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)


def refused(kind: type[RequestRejectedError], status: int) -> RequestRejectedError:
    return kind(
        status=status,
        error_message="no such thing",
        method="GET",
        path=f"/r/tasks/{TASK}",
        retry_after=2.5,
    )


def away() -> ServiceUnavailableError:
    error = ServiceUnavailableError("timed out", status=503, error_message="busy", attempts=4)
    error.maybe_sent = error.maybe_begun = False
    error.is_final = True
    return error


EXAMPLES: list[CyberunError] = [
    CyberunError("something"),
    ConfigurationError("the base URL is empty"),
    InvalidInputError("the task id is empty"),
    ParameterError(["'a' is required", "'b' is not known"], workflow="text-to-image"),
    ClientStateError("not open"),
    ClientClosedError("closed"),
    WrongEventLoopError("another loop"),
    DetachedHandleError("detached"),
    refused(RequestRejectedError, 409),
    refused(AuthenticationError, 401),
    refused(PermissionDeniedError, 403),
    refused(NotFoundError, 404),
    refused(TaskNotFoundError, 404),
    refused(RateLimitedError, 429),
    away(),
    WatchLostError("timed out", outage=1800.0, snapshot=SNAPSHOT, attempts=9),
    UnexpectedResponseError("no JSON", status=200, content_type="text/html", body=b"<html>"),
    SubmissionUncertainError(
        workflow="text-to-image", parameters={"prompt": "a fox"}, sent_at=SENT, reason="timed out"
    ),
    TransferError("the store refused", status=403),
    SlowReaderError("too slow"),
    TaskEndedError(task_id=TASK, error="no VRAM", snapshot=SNAPSHOT),
    TaskFailedError(task_id=TASK, error="no VRAM", snapshot=SNAPSHOT),
    TaskCancelledError(task_id=TASK, snapshot=SNAPSHOT),
    UnknownEndError(task_id=TASK, status="archived", error="too old", snapshot=SNAPSHOT),
    WaitTimeoutError(task_id=TASK, timeout=60.0, snapshot=SNAPSHOT, cancel_requested=True),
    SubmissionTimeoutError(
        workflow="text-to-image", parameters={"prompt": "a fox"}, sent_at=SENT, timeout=2.0
    ),
    WebhookVerificationError("the signature does not fit"),
    refused(ResultExpiredError, 410),
    RepeatedDeliveryError(WebhookEvent(event_type="task.completed", task_id=TASK)),
]
EVERY_ERROR = [pytest.param(error, id=type(error).__name__) for error in EXAMPLES]


def exported() -> Iterator[type[CyberunError]]:
    for name in cyberun_async.__all__:
        thing = getattr(cyberun_async, name)
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            assert issubclass(thing, CyberunError), name
            yield thing


def test_every_exported_error_has_an_example() -> None:
    """A new error is put into the table, so that all that follows holds for it too."""
    shown = {type(error) for error in EXAMPLES}

    assert {error.__name__ for error in exported()} <= {error.__name__ for error in shown}


def test_the_drawing_shows_the_tree() -> None:
    """The tree at the top of the module has every class, each below its parent."""
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (_errors.__doc__ or "").splitlines():
        found = re.match(r"([ │├└─]*)(\w+Error)\b", line)
        if found and line.startswith("    "):
            level = (len(found[1]) - 4) // 4
            del above[level:]
            drawn[found[2]] = above[-1] if above else "Exception"
            above.append(found[2])
    real = {
        name: thing.__mro__[1].__name__
        for name, thing in vars(_errors).items()
        if inspect.isclass(thing) and issubclass(thing, CyberunError)
    }

    assert drawn == real


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_an_error_survives_a_pickle_and_a_copy(error: CyberunError) -> None:
    """Class, message and every attribute come back, the resume token included."""
    original = copy.copy(error).with_token(TOKEN)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(original, protocol))
        assert type(again) is type(error)
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(original))
    for again in (copy.copy(original), copy.deepcopy(original)):
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(original))
    assert error.resume_token is None


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_an_error_prints(error: CyberunError) -> None:
    """Message and representation are one short line, fit for any log."""
    for text in (str(error), repr(error)):
        assert text
        assert text.isprintable()
        assert len(text) < 600
    assert "None" not in str(error)
    assert str(error) in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("error", EVERY_ERROR)
def test_an_error_can_be_raised_and_noted(error: CyberunError) -> None:
    """It is an ordinary exception: a cause, a note and a group do not hurt it."""
    original = copy.copy(error)
    original.add_note("seen in the night")
    original.__cause__ = OSError("away")

    again = pickle.loads(pickle.dumps(original))

    assert again.__notes__ == ["seen in the night"]
    with pytest.raises(ExceptionGroup) as caught:
        raise ExceptionGroup("many", [original])
    assert caught.value.exceptions == (original,)


@pytest.mark.parametrize("error", list(exported()))
def test_every_error_is_explained(error: type[CyberunError]) -> None:
    """The name says that it is an error, and its docstring when it comes."""
    assert error.__name__.endswith("Error")
    assert "__doc__" in vars(error)
    assert (error.__doc__ or "").strip()


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (ConfigurationError, ValueError),
        (InvalidInputError, ValueError),
        (ParameterError, ValueError),
        (ClientStateError, RuntimeError),
        (WaitTimeoutError, TimeoutError),
        (SubmissionTimeoutError, TimeoutError),
    ],
)
def test_an_error_is_what_a_caller_would_catch_anyway(
    error: type[Exception], builtin: type[Exception]
) -> None:
    """Where Python has a word for it, the error is that too."""
    assert issubclass(error, builtin)


@pytest.mark.parametrize("error", list(exported()))
def test_no_error_is_taken_for_a_loss_of_connection_or_an_end(error: type[CyberunError]) -> None:
    """Code around a loop must not mistake one for the end of iteration or a broken pipe."""
    assert not issubclass(error, StopIteration | StopAsyncIteration | ConnectionError)


def test_messages_say_what_was_known() -> None:
    """What is known goes into the message, what is not leaves no trace."""
    plain = TaskFailedError(task_id="a")
    late = WaitTimeoutError(task_id="a", timeout=2.5, what="start")
    refusal = RequestRejectedError(status=409)

    assert str(plain) == "task a failed"
    assert str(late) == "task a did not start within 2.5 s; it goes on remotely"
    assert str(refusal) == "was refused with HTTP 409"
    assert str(away()) == "timed out: busy after 4 attempts"
    assert "last known status running" in str(EXAMPLES[15])
    assert SENT.isoformat() in str(EXAMPLES[17])


def test_an_excerpt_is_cut() -> None:
    """A page of a proxy does not fill the log; bytes that are no text do not fail."""
    error = UnexpectedResponseError("no JSON", body=b"\xff" + b"x" * 10_000)

    assert len(error.excerpt) == 200
    assert error.excerpt.startswith("\ufffdx")
    assert UnexpectedResponseError("no JSON", body="text").excerpt == "text"


@attrs.define
class Holder:
    """Something with a secret in it, which a traceback with locals might print."""

    key: str


def test_an_error_keeps_no_link_to_what_raised_it() -> None:
    """A pickle holds the error's own attributes, not the frames it passed through."""
    holder = Holder("sk-live-abcdef")
    try:
        raise away()
    except ServiceUnavailableError as error:
        stored = pickle.dumps(error)

    assert holder.key.encode() not in stored
