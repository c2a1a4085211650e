"""
Progress for browsers: one task's events, re-streamed to any number of them (extra ``asgi``).

A browser's ``EventSource`` cannot send the bearer header, and must not know the key.
:class:`TaskRelay` follows a task once in each process and streams it to every authorised browser.

.. code-block:: python

    client = CyberunClient()
    relay = TaskRelay(client, authorize=is_theirs)


    @asynccontextmanager
    async def lifespan(app):
        async with client, relay:
            yield


    app = Starlette(routes=[Route("/tasks/{task_id}/events", relay)], lifespan=lifespan)

Events have the names of the service, and data that is the same while streaming and while
polling:

================ ===========================================================================
event            data, one JSON object
================ ===========================================================================
``status``       ``task_id``, ``attempt``, ``status``
``progress``     ``task_id``, ``attempt``, ``progress`` (0 to 1), and where known
                 ``step_current``, ``step_total``, ``current_node``, ``stage``, ``message``
``completed``    ``task_id``, ``attempt``, ``status``, ``output``
``failed``       ``task_id``, ``attempt``, ``status``, ``error``
``cancelled``    ``task_id``, ``attempt``, ``status``
``liveness``     ``progress_is_live``: false while reconnecting, and while polling, when there
                 are no progress events
``server-error`` ``task_id``, ``attempt``, ``message``: the service's event ``error``,
                 renamed, as ``EventSource`` dispatches ``error`` for a lost connection
``unknown``      ``task_id``, ``attempt``, ``name``, ``data``: an event of a later service
``relay-error``  ``task_id``, ``error`` (a class of :class:`~cyberun_async.CyberunError`),
                 ``is_final``: the task cannot be followed; a task that is not there is
                 looked for during ``WatchPolicy.not_found_grace`` first. Where it is not
                 final, as with ``max_tasks`` followed already, the browser comes back
================ ===========================================================================
"""

from .._names import publish


try:
    from ._app import Authorize, TaskRelay
except ModuleNotFoundError as _error:
    if (_error.name or "").partition(".")[0] != "starlette":
        raise
    raise ModuleNotFoundError(
        f"{__name__} needs starlette, which the extra `asgi` brings: "
        "pip install 'cyberun_async[asgi]'",
        name=_error.name,
    ) from _error


__all__ = ["Authorize", "TaskRelay"]

publish(__name__, globals(), __all__)
