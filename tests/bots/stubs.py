"""Stand-ins for a chat library's objects, which take only the calls the real ones take."""

import inspect
from collections.abc import Callable
from typing import Any

import attrs


@attrs.frozen
class Call:
    """A call as it was made: the path of the method, and its arguments by name."""

    method: str
    arguments: dict[str, Any]


@attrs.define(eq=False)
class Recorder:
    """What was called on stubs, in order."""

    calls: list[Call] = attrs.field(factory=list[Call])
    answers: dict[str, Callable[..., Any]] = attrs.field(factory=dict[str, Callable[..., Any]])

    def stub(self, cls: type, path: str = "", **attributes: Any) -> Any:
        """
        Return an object with the methods of *cls*.

        A call is checked against the real method's signature, recorded and, where the real
        method is a coroutine function, to be awaited. What *cls* does not have, the stub
        has neither.
        """
        return _Stub(self, cls, path or cls.__name__, attributes)

    def made(self, method: str) -> list[dict[str, Any]]:
        """Return the arguments of each call of *method*."""
        return [call.arguments for call in self.calls if call.method == method]

    def contents(self) -> list[str]:
        """Return the texts that were shown, in order."""
        shown = (call.arguments.get("content") for call in self.calls)
        return [text for text in shown if isinstance(text, str)]


class _Stub:
    def __init__(
        self, recorder: Recorder, cls: type, path: str, attributes: dict[str, Any]
    ) -> None:
        self.__dict__.update(attributes)
        self._recorder, self._cls, self._path = recorder, cls, path

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._cls, name)  # AttributeError where there is none
        signature = inspect.signature(real)
        path = f"{self._path}.{name}"

        def record(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(None, *args, **kwargs)
            arguments = {n: v for n, v in bound.arguments.items() if n != "self"}
            arguments.update(arguments.pop("kwargs", {}))
            self._recorder.calls.append(Call(path, arguments))
            answer = self._recorder.answers.get(path)
            return None if answer is None else answer(**arguments)

        async def record_async(*args: Any, **kwargs: Any) -> Any:
            return record(*args, **kwargs)

        return record_async if inspect.iscoroutinefunction(real) else record
