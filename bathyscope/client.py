"""The client of a running service, for scripts and notebooks: synchronous and asynchronous.

>>> import bathyscope
>>> with bathyscope.Client.demo() as client:
...     run = client.runs.start(name="beads", duration_s=1)
...     run = client.runs.wait(run, progress=False)
...     tracks = client.runs.tracks(run)
...     for state in client.live.tracks(run=run):
...         pass  # it has ended, so there are none
>>> run.state, sorted(tracks)[:3]
('finished', ['frame', 'observed', 'probability'])
>>> client.address.rpartition(":")[0], bathyscope.AsyncClient(client.address).address == client.address
('http://127.0.0.1', True)
>>> try:
...     bathyscope.Client("ftp://scope")
... except bathyscope.ServiceError as error:
...     print(error.kind, "|", error.remedy)
address | Give it as in http://127.0.0.1:8000.

Each method is written once, as steps without input or output
(`bathyscope.remote.steps`), and both clients perform them. Neither needs torch,
a GPU or the libraries of the service.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from bathyscope.remote.control import AsyncControl, Control
from bathyscope.remote.demo import DemoService
from bathyscope.remote.instrument import InstrumentMethods
from bathyscope.remote.jobs import JobMethods
from bathyscope.remote.library import CalibrationMethods, ModelMethods
from bathyscope.remote.live import AsyncLive, Live
from bathyscope.remote.microscope import MicroscopeMethods
from bathyscope.remote.problems import ServiceAway, ServiceError
from bathyscope.remote.runs import RunMethods
from bathyscope.remote.steps import Steps
from bathyscope.remote.transports import AsyncTransport, Place, Transport

__all__ = ["AsyncClient", "Client", "ServiceAway", "ServiceError"]

T = TypeVar("T")

_ADDRESS = "http://127.0.0.1:8000"


class _Part:
    """A part of the synchronous client."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _perform(self, steps: Steps[T]) -> T:
        return self._transport.perform(steps)


class _AsyncPart:
    """A part of the asynchronous client."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def _perform(self, steps: Steps[T]) -> T:
        return await self._transport.perform(steps)


class Calibrations(CalibrationMethods, _Part):
    """Calibrations of the service."""


class Models(ModelMethods, _Part):
    """Models of the service."""


class Runs(RunMethods, _Part):
    """Runs of the service, and their tracks."""


class Jobs(JobMethods, _Part):
    """Jobs of the service."""


class MicroscopeOfService(MicroscopeMethods, _Part):
    """The microscope of the service."""


class AsyncCalibrations(CalibrationMethods, _AsyncPart):
    """Calibrations of the service."""


class AsyncModels(ModelMethods, _AsyncPart):
    """Models of the service."""


class AsyncRuns(RunMethods, _AsyncPart):
    """Runs of the service, and their tracks."""


class AsyncJobs(JobMethods, _AsyncPart):
    """Jobs of the service."""


class AsyncMicroscopeOfService(MicroscopeMethods, _AsyncPart):
    """The microscope of the service."""


class Client(InstrumentMethods, _Part):
    """A connection to a running service; use it in a ``with`` block, or close it.

    It works where an event loop runs too, as in a notebook. One client may be
    used from several threads.

    Parameters
    ----------
    address : str
        Of the service.
    key : str, optional
        Access key; absent: that of the environment variable BATHYSCOPE_ACCESS_KEY.
    program : str, optional
        What the audit of the service names beside the address.

    Attributes
    ----------
    address : str
    runs, calibrations, models, jobs, microscope : the resources of the service
    live : the live streams

    Raises
    ------
    ServiceError
        When the address is not one. No request is sent before the first method is called.
    """

    def __init__(self, address: str = _ADDRESS, key: str | None = None, *, program: str | None = None) -> None:
        place = Place.of(address, key, program)
        super().__init__(Transport(place))
        self.address = place.address
        self._demo: DemoService | None = None
        self.runs = Runs(self._transport)
        self.calibrations = Calibrations(self._transport)
        self.models = Models(self._transport)
        self.jobs = Jobs(self._transport)
        self.microscope = MicroscopeOfService(self._transport)
        self.live = Live(self._transport)

    @classmethod
    def demo(cls, driver: Literal["simulated", "democamera"] = "simulated", **settings: Any) -> Self:
        """Start a private service for tutorials and tests, and connect to it.

        It has a temporary data directory and a free port, and ends with the
        ``with`` block, with `close`, or with this program, also when that is killed.

        Parameters
        ----------
        driver : str
            ``"simulated"``: emitters that swim, and a model that fits. ``"democamera"``: Micro-Manager's own simulated
            camera, which needs the extra ``democamera``.
        **settings
            Further settings of the service, as in its settings file, such as ``camera={"exposure_s": 0.02}`` or
            ``microscope={"simulated": {"sample": "slide"}}``.

        Raises
        ------
        ServiceError
            When it does not start.
        """
        demo = DemoService({**settings, "microscope": {"driver": driver, **settings.get("microscope", {})}})
        client = cls(demo.address)
        client._demo = demo
        return client

    def control(self, name: str | None = None) -> Control:
        """Take control of stages and light, also during a run; use it in a ``with`` block.

        One client at a time has it. It ends with the block, with the stop of the microscope, and when this program
        ends or crashes.

        Parameters
        ----------
        name : str, optional
            Shown to other users; absent: the name of this script.

        Raises
        ------
        ServiceError
            Kind ``"conflict"`` when another client has control, or a sweep has the microscope; raised at the begin of
            the block.
        """
        return Control(self._transport, name)

    def close(self) -> None:
        """Close the connection, and end a service that `demo` started."""
        self._transport.close()
        if self._demo is not None:
            self._demo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(InstrumentMethods, _AsyncPart):
    """A connection to a running service for programs with an event loop; use it in an ``async with`` block.

    It has the methods of `Client`, each to be awaited, and its streams in ``async for``.

    Parameters
    ----------
    address, key, program : as of `Client`
    """

    def __init__(self, address: str = _ADDRESS, key: str | None = None, *, program: str | None = None) -> None:
        place = Place.of(address, key, program)
        super().__init__(AsyncTransport(place))
        self.address = place.address
        self.runs = AsyncRuns(self._transport)
        self.calibrations = AsyncCalibrations(self._transport)
        self.models = AsyncModels(self._transport)
        self.jobs = AsyncJobs(self._transport)
        self.microscope = AsyncMicroscopeOfService(self._transport)
        self.live = AsyncLive(self._transport)

    def control(self, name: str | None = None) -> AsyncControl:
        """As `Client.control`, in an ``async with`` block."""
        return AsyncControl(self._transport, name)

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
