"""Steps computed by the workers of a Dask cluster: of this machine, or of any scheduler.

Dask decides which worker computes which step, and gives a step to another
worker when one is lost. What is done is known from the work folders alone, so
the scheduler may be killed and started again: the steps that are not done are
submitted again, and those that are done are not computed twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bathyscope_errors import BathyscopeError
from models.errors import DataError
from service.reprocess.work_folder import LINK, WorkFolder
from service.reprocess.workforce import Outcome, Step, StepFunction, Tick

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["DaskWorkforce", "local_cluster", "scheduler_at"]

_LOOK_S = 0.2
_ANSWER_S = 5.0
"""Longest time for the scheduler to answer, s."""


class DaskWorkforce:
    """Computes steps on a cluster.

    Parameters
    ----------
    connect : callable
        Returns a new client of the scheduler; raises OSError when it does not answer.
    patience_s : float
        How long a scheduler that answered once may be away, s.
    note : callable
        Receives what happens, for people.
    """

    def __init__(self, connect: Callable[[], Client], patience_s: float, note: Callable[[str], None]) -> None:
        self._connect = connect
        self._patience_s = patience_s
        self._note = note
        self._client: Client | None = None
        self._client = self._connected(0.0)

    @property
    def dashboard(self) -> str | None:
        """Dask's page of the cluster."""
        return None if self._client is None else str(self._client.dashboard_link)

    def close(self) -> None:
        """End the connection."""
        if self._client is not None:
            with suppress(OSError, TimeoutError):
                self._client.close(timeout=_ANSWER_S)  # type: ignore[no-untyped-call]
            self._client = None

    def run(self, wanted: Sequence[Step], tick: Tick) -> Iterator[Outcome]:
        """See `Workforce`.

        Raises
        ------
        DataError
            When the scheduler is away for longer than it may be.
        """
        waiting = {(step.folder, step.name): step for step in wanted}
        while waiting:
            futures = self._submit(list(waiting.values()))
            while waiting and not self._is_lost(futures):
                for key in [key for key in waiting if futures[key].status in ("finished", "error")]:
                    yield _outcome(waiting.pop(key), futures.pop(key))
                for (path, name), step in waiting.items():
                    if name == LINK:
                        tick(step, WorkFolder(path).linked())
                time.sleep(_LOOK_S)
            if waiting:
                yield from self._reconnect(waiting)

    def _is_lost(self, futures: dict[tuple[Path, str], Future[None]]) -> bool:
        """Whether the scheduler has gone, or has forgotten the steps.

        The status "lost" is not meant: the results of a lost worker, which Dask has computed again by another one.
        """
        client = self._client
        forgotten = any(each.status == "cancelled" for each in futures.values())
        return client is None or client.status != "running" or forgotten

    def _submit(self, missing: Sequence[Step]) -> dict[tuple[Path, str], Future[None]]:
        client = self._client
        if client is None:
            raise RuntimeError("the workforce is closed")
        futures: dict[tuple[Path, str], Future[None]] = {}
        ranks = {path: rank for rank, path in enumerate(dict.fromkeys(step.folder for step in missing))}
        for step in missing:
            before = [futures[step.folder, name] for name in step.after if (step.folder, name) in futures]
            futures[step.folder, step.name] = client.submit(
                _compute,
                step.function,
                str(step.folder),
                step.block,
                before,
                key=f"{step.name}-{step.folder.name}-{time.monotonic_ns()}",
                priority=-ranks[step.folder],
                pure=False,
            )
        return futures

    def _reconnect(self, waiting: dict[tuple[Path, str], Step]) -> Iterator[Outcome]:
        """Wait for the scheduler; what was done meanwhile is not submitted again."""
        self._note("The scheduler is away; waiting for it. What is done is kept.")
        self.close()
        self._client = self._connected(self._patience_s)
        for key, step in list(waiting.items()):
            if WorkFolder(step.folder).record(step.name) is not None:
                yield Outcome(waiting.pop(key))
        self._note(f"The scheduler is back; {len(waiting)} steps are left.")

    def _connected(self, patience_s: float) -> Client:
        deadline_s = time.monotonic() + patience_s
        while True:
            try:
                return self._connect()
            except (OSError, TimeoutError) as error:
                if time.monotonic() > deadline_s:
                    raise DataError(
                        f"The Dask scheduler does not answer ({error}).",
                        "Start it, and run the same command again: what is done is kept.",
                    ) from error
            time.sleep(_LOOK_S)


def _compute(function: StepFunction, folder: str, block: int, _before: list[Any]) -> None:
    """A step on a worker; `_before` only makes Dask wait."""
    function(folder, block, None)


def _outcome(step: Step, future: Future[None]) -> Outcome:
    error: Any = future.exception() if future.status == "error" else None  # type: ignore[no-untyped-call]
    if error is None or isinstance(error, BathyscopeError):
        return Outcome(step, error)
    return Outcome(
        step,
        DataError(
            f"The step {step.name} of {step.folder} failed on a worker ({type(error).__name__}: {error}).",
            "See the log of the worker; a worker that ends without a message had too little memory.",
        ),
    )


@contextmanager
def local_cluster(workers: int, note: Callable[[str], None]) -> Iterator[DaskWorkforce]:
    """A scheduler and workers on this machine, each with one thread, until the end of the block.

    Raises
    ------
    DataError
        When Dask is not installed, or the workers do not start.
    """
    distributed = _distributed()
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.ERROR,
                )
            )
        except (OSError, RuntimeError, TimeoutError) as error:
            raise DataError(
                f"The {workers} worker processes of Dask did not start ({error}).",
                "Give fewer --workers, or --workers 0 to compute in this process.",
            ) from error
        workforce = DaskWorkforce(lambda: _client(distributed, cluster), 0.0, note)
        stack.callback(workforce.close)
        yield workforce


@contextmanager
def scheduler_at(address: str, patience_s: float, note: Callable[[str], None]) -> Iterator[DaskWorkforce]:
    """The workers of any scheduler, by its address, until the end of the block.

    Raises
    ------
    DataError
        When Dask is not installed, or the scheduler does not answer.
    """
    distributed = _distributed()
    log = logging.getLogger("distributed.client")
    before = log.level
    log.setLevel(logging.CRITICAL)  # a lost scheduler is reported by `note`, without tracebacks
    try:
        workforce = DaskWorkforce(lambda: _client(distributed, address), patience_s, note)
        try:
            yield workforce
        finally:
            workforce.close()
    finally:
        log.setLevel(before)


def _client(distributed: Any, where: Any) -> Client:
    client: Client = distributed.Client(where, timeout=_ANSWER_S, set_as_default=False)
    return client


def _distributed() -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise DataError(
            f"Dask is not installed ({error.name}).",
            "pip install 'bathyscope[cluster]', or compute in this process with --workers 0.",
        ) from error
    return distributed
