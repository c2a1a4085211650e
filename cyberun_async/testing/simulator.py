"""The simulated service as its users see it."""

import random
import ssl
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Self

import anyio
import anyio.to_thread
from starlette.types import ASGIApp

from ._sent import Sent
from ._simulator.behaviour import Behaviour
from ._simulator.checks import check, check_all
from ._simulator.clock import ServiceClock
from ._simulator.deliveries import Sender, WebhookDispatcher, post
from ._simulator.endpoints import API, routes
from ._simulator.errors import ConnectionCutError
from ._simulator.faults import FaultBook
from ._simulator.files import Signer, StoredFile
from ._simulator.keys import KeyRing, Kind
from ._simulator.live import LiveTask
from ._simulator.plan import TaskPlan
from ._simulator.records import Delivery, RecordedRequest, Records, Submission
from ._simulator.server import ServerThread, listen
from ._simulator.state import Planner, State, run_request
from ._simulator.workflows import Workflow
from ._story import Story
from .faults import TROUBLES


_IN_PROCESS_API = "http://cyberun.test"
_LAST_PORT = 65_535
_IN_PROCESS_STORE = "http://store.cyberun.test"


class Simulator:
    """
    A local Cyberun Cloud: the documented service, with any faults you like.

    As a context manager, sync or async (asyncio and trio), it serves real HTTP on
    127.0.0.1 from a thread of its own; leaving the block cuts all connections and
    ends the thread. Without entering it, its :attr:`app` can be called in
    process, also on a loop whose clock is virtual.

    Tasks cost nothing while they live: what a task does is computed from its
    :class:`TaskPlan`, so thousands are fine. All methods are safe from any
    thread. Tasks, keys and records outlive :meth:`kill` and :meth:`restart`.

    The object store has an origin of its own, as in production.

    Args:
        speed: How many times faster than planned tasks live.
        behaviour: What the service does where its documentation is silent.
        default_plan: The life of a task for which nothing else is planned.
        seed: Makes ids and keys the same each time; None makes them random.
        port: Where to serve; 0 takes a free port.
        starts_at: The date and time at which the service's clock starts; None is now.
        max_file_size: The largest file that may be uploaded, in bytes.
        allow_http_webhooks: Whether webhooks may go to `http` on loopback.
        webhook_sender: Posts the webhooks; None opens real connections.
        record_limit: How many requests are kept; the oldest are dropped first.
        team_id: The id of the team; None makes a UUID.
        tls: Serves HTTPS with the certificate of this server-side context, at
            :attr:`url` and at :attr:`store_url`; None serves plain HTTP. In
            process there is no TLS.

    Raises:
        ValueError: An argument is of the wrong type or out of range; the message names it.
    """

    def __init__(
        self,
        *,
        speed: float = 1.0,
        behaviour: Behaviour | None = None,
        default_plan: TaskPlan | None = None,
        seed: int | None = None,
        port: int = 0,
        starts_at: datetime | None = None,
        max_file_size: int = 500_000_000,
        allow_http_webhooks: bool = True,
        webhook_sender: Sender | None = None,
        record_limit: int = 100_000,
        team_id: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        check_all(Simulator.__init__, locals(), positive={"speed"}, signed={"seed"})
        if port > _LAST_PORT:
            raise ValueError(f"port must be {_LAST_PORT} or less, not {port}")
        if starts_at is not None and starts_at.tzinfo is None:
            raise ValueError("starts_at must have a time zone, such as datetime.UTC")
        chance = random.Random(seed)
        clock = ServiceClock(starts_at)
        own_id = f"{chance.getrandbits(32):08x}-7eaa-4000-8000-000000000000"
        self._state = State(
            clock=clock,
            chance=chance,
            behaviour=behaviour or Behaviour(),
            default_plan=default_plan or TaskPlan(),
            speed=speed,
            max_file_size=max_file_size,
            allow_http_webhooks=allow_http_webhooks,
            api_base=_IN_PROCESS_API,
            store_base=_IN_PROCESS_STORE,
            records=Records(record_limit),
            keys=KeyRing(chance, team_id or own_id),
            signer=Signer(chance, clock),
        )
        self._app = routes(self._state)
        self._dispatcher = WebhookDispatcher(self._state, webhook_sender or post)
        self._ports = (port, 0)
        self._tls = tls
        self._server: ServerThread | None = None
        self._switching = threading.Lock()
        self.key: str = self.issue_key("sk")
        self.device_key: str = self.issue_key("dk")
        self.jwt: str = self.issue_key("jwt")

    # Serving.

    def __enter__(self) -> Self:
        self.restart()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.restart)
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.kill)

    def kill(self) -> None:
        """Cut all connections and refuse new ones; the service's clock runs on."""
        with self._switching:
            server, self._server = self._server, None
            if server is not None:
                server.stop()

    def restart(self) -> None:
        """
        Serve, again on the same port if it did before.

        Raises:
            OSError: The port is taken.
        """
        with self._switching:
            if self._server is None:
                self._server = self._serve()

    def _serve(self) -> ServerThread:
        self._state.clock.follow_threads()
        sockets = listen(*self._ports)
        self._ports = (sockets[0].getsockname()[1], sockets[1].getsockname()[1])
        scheme = "http" if self._tls is None else "https"
        self._state.api_base, self._state.store_base = (
            f"{scheme}://127.0.0.1:{port}" for port in self._ports
        )
        server = ServerThread(self._app, sockets, self._accepted, self._dispatcher.run, self._tls)
        server.start()
        return server

    @property
    def app(self) -> ASGIApp:
        """The service as an ASGI application, for use in process."""
        return self._app

    async def run_webhooks(self) -> None:
        """Deliver webhooks until cancelled; the server does so by itself."""
        await self._dispatcher.run()

    # Addresses and credentials.

    @property
    def url(self) -> str:
        """The base URL of the API."""
        return self._state.api_base + API

    @property
    def store_url(self) -> str:
        """The origin of the object store."""
        return self._state.store_base

    @property
    def team_id(self) -> str:
        """The team whose tasks these are; JWT callers must name it."""
        return self._state.keys.team_id

    def issue_key(self, kind: Kind) -> str:
        """
        Return a new working credential: `sk`, `dk`, `ak` or `jwt`.

        Raises:
            ValueError: There is no such kind.
        """
        check("kind", kind, Kind)
        return self._state.keys.issue(kind)

    def revoke(self, key: str) -> None:
        """Refuse *key* from now on; open streams end if the behaviour says so."""
        self._state.keys.revoke(key)
        if self._state.behaviour.revoke_ends_streams:
            self._state.streams.end(ConnectionCutError(), key=key)

    # Scripting.

    @property
    def behaviour(self) -> Behaviour:
        """What the service does where its documentation is silent; may be replaced."""
        return self._state.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        check("behaviour", behaviour, Behaviour)
        self._state.behaviour = behaviour

    @property
    def default_plan(self) -> TaskPlan:
        """The life of a task for which nothing else is planned; may be replaced."""
        return self._state.default_plan

    @default_plan.setter
    def default_plan(self, plan: TaskPlan) -> None:
        check("default_plan", plan, TaskPlan)
        self._state.default_plan = plan

    @property
    def faults(self) -> FaultBook:
        """The faults of the service."""
        return self._state.faults

    def plan(self, *plans: TaskPlan) -> None:
        """
        Give the next submissions these lives, one each, in order.

        Raises:
            ValueError: One is no plan.
        """
        for each in plans:
            check("a plan", each, TaskPlan)
        with self._state.lock:
            self._state.plans.extend(plans)

    def tell(self, *stories: Story) -> None:
        """
        Give the next submissions these :class:`stories <Story>`, one each, in order.

        Raises:
            ValueError: One is no story.
        """
        for each in stories:
            check("a story", each, Story)
        self.plan(*(story.plan for story in stories))

    def trouble(self, *names: str) -> None:
        """
        Switch troubles on by name, such as ``no-streams`` or ``rate-limited``.

        Raises:
            ValueError: There is no such trouble; the message names all there are.
        """
        for name in names:
            if name not in TROUBLES:
                raise ValueError(f"there is no trouble {name!r}; there are {', '.join(TROUBLES)}")
        for fault in [fault for name in names for fault in TROUBLES[name]]:
            self.faults.add_fault(fault)

    def plan_by(self, planner: Planner | None) -> None:
        """
        Call *planner* for the plan of each submission that has none in the queue.

        It is called with the :class:`RunRequest`, in the server's thread; where it
        returns None the default plan applies.

        Raises:
            ValueError: It cannot be called.
        """
        check("planner", planner, Planner | None)
        self._state.planner = planner

    def create_task(
        self,
        plan: TaskPlan | None = None,
        *,
        workflow: str = "text-to-image",
        parameters: Mapping[str, object] | None = None,
        manual: bool = False,
    ) -> LiveTask:
        """
        Create a task without a submission, for instance one of another program.

        Args:
            plan: Its life; None is the default plan.
            workflow: The slug of its workflow.
            parameters: What it was submitted with; None is a prompt.
            manual: Whether it stays `pending` until driven by hand.

        Raises:
            ValueError: There is no such workflow, or an argument is of the wrong type.
        """
        check_all(Simulator.create_task, locals())
        known = self._state.workflows.by_slug(workflow)
        if known is None:
            raise ValueError(f"there is no workflow {workflow!r}")
        run = run_request(known, parameters or {"prompt": "a fox"}, {})
        chosen = plan or self._state.default_plan
        task = self._state.create(run, chosen, "api_key", manual=manual)
        return LiveTask(self._state, task)

    def task(self, task_id: str) -> LiveTask:
        """
        Return a task by its id.

        Raises:
            KeyError: There is none.
        """
        task = self._state.tasks.get(task_id)
        if task is None:
            raise KeyError(task_id)
        return LiveTask(self._state, task)

    @property
    def tasks(self) -> list[LiveTask]:
        """All tasks, the oldest first."""
        return [LiveTask(self._state, task) for task in self._state.tasks]

    def add_workflow(
        self,
        slug: str,
        parameters: Sequence[Mapping[str, object]] = (),
        *,
        tool_type: str = "comfyui",
        status: str = "active",
    ) -> str:
        """
        Offer a workflow, or the next version of one, and return its id.

        Args:
            slug: Its slug.
            parameters: Its parameter definitions as on the wire.
            tool_type: `comfyui` or `nerfstudio`.
            status: `active`, or `disabled` to have its runs refused.

        Raises:
            ValueError: An argument is of the wrong type, or no tool.
        """
        check_all(Simulator.add_workflow, locals())
        check("parameters", tuple(parameters), tuple[Mapping[str, object], ...])
        check("tool_type", tool_type, Literal["comfyui", "nerfstudio"])
        last = self._state.workflows.by_slug(slug)
        workflow = Workflow(
            last.id if last else self._state.new_id(),
            slug,
            slug.replace("-", " ").capitalize(),
            last.version + 1 if last else 1,
            tuple(parameters),
            tool_type,
            status=status,
        )
        self._state.workflows.add(workflow)
        return workflow.id

    def workflow_id(self, slug: str) -> str:
        """
        Return the id of a workflow.

        Raises:
            KeyError: There is none with this slug.
        """
        workflow = self._state.workflows.by_slug(slug)
        if workflow is None:
            raise KeyError(slug)
        return workflow.id

    def advance(self, seconds: float) -> None:
        """
        Move the service's clock forward: tasks go on, links and results expire.

        Raises:
            ValueError: *seconds* is no number, or less than 0.
        """
        check("seconds", seconds, float)
        self._state.clock.advance(seconds)
        self._state.streams.wake()

    def drop_streams(self, *, reset: bool = False) -> None:
        """Cut the connections of all open event streams now."""
        self._state.streams.end(ConnectionCutError(reset=reset))

    # What happened.

    @property
    def now(self) -> float:
        """Seconds since the service began, by its own clock."""
        return self._state.clock.now()

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests that arrived, in order."""
        return list(self._state.records.requests)

    def requests_to(self, endpoint: str, task: str | None = None) -> list[RecordedRequest]:
        """Return the requests to one endpoint, about one task or any."""
        return [
            request
            for request in self.requests
            if request.endpoint == endpoint and task in (None, request.task_id)
        ]

    @property
    def submissions(self) -> list[Submission]:
        """The runs that were accepted, in order."""
        return list(self._state.records.submissions)

    @property
    def sent(self) -> Sent:
        """What has been received so far, with assertions on it."""
        return Sent(self.requests, self.submissions)

    @property
    def deliveries(self) -> list[Delivery]:
        """The attempts to deliver webhooks, in order."""
        return list(self._state.records.deliveries)

    @property
    def uploads(self) -> dict[str, StoredFile]:
        """The files that were uploaded, by file key."""
        return dict(self._state.uploads)

    @property
    def open_streams(self) -> int:
        """How many event streams are open now."""
        return self._state.streams.count

    @property
    def peak_streams(self) -> int:
        """How many event streams were open at most."""
        return self._state.streams.peak

    @property
    def open_connections(self) -> int:
        """How many connections the server has open now."""
        return 0 if self._server is None else self._server.connections

    def accepts_per_window(self, seconds: float = 0.1) -> list[int]:
        """
        Return how many connections were accepted in each window of time.

        Raises:
            ValueError: *seconds* is no number above 0.
        """
        check("seconds", seconds, float, is_positive=True)
        return self._state.records.accepts_per_window(seconds)

    def forget(self) -> None:
        """Forget recorded requests, submissions, deliveries and the peak of streams."""
        self._state.records.clear()
        self._state.streams.peak = self._state.streams.count

    def _accepted(self) -> None:
        self._state.records.accepts.append(self._state.clock.now())
