"""An exception in a thread is reported, and its remaining input is drained."""

from __future__ import annotations

from service.worker_thread import WorkerThread


class _Failing(WorkerThread):
    drained = 0

    def work(self) -> None:
        raise KeyError("unforeseen")

    def drain(self) -> None:
        self.drained += 1


def _run(thread: WorkerThread) -> None:
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


def test_a_failure_is_reported_once_and_the_rest_drained() -> None:
    reports: list[Exception] = []
    thread = _Failing("test", reports.append)
    _run(thread)
    assert [type(error) for error in reports] == [KeyError]
    assert thread.failure is reports[0]
    assert thread.drained == 1


def test_a_failing_report_does_not_prevent_the_draining() -> None:
    def report(error: Exception) -> None:
        raise OSError("no room to report")

    thread = _Failing("test", report)
    _run(thread)
    assert isinstance(thread.failure, KeyError)
    assert thread.drained == 1


def test_an_orderly_end_is_no_failure() -> None:
    class Quiet(_Failing):
        def work(self) -> None:
            pass

    reports: list[Exception] = []
    thread = Quiet("test", reports.append)
    _run(thread)
    assert thread.failure is None
    assert (reports, thread.drained) == ([], 0)
