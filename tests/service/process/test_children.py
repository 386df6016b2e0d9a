from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from service.process import children
from service.process.children import follow_parent, place_of, run_child, wait_for_orphans


def hang(pipe: Connection) -> None:
    """A child that hangs, as in a driver."""
    children.ORPHAN_LIMIT_S = 0.5
    follow_parent(pipe, lambda _: None)
    pipe.send("here")
    time.sleep(600)


def test_a_hanging_orphan_keeps_its_lock_until_it_ends_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=run_child, args=(place_of(tmp_path, "engine"), hang, theirs))
    child.start()
    theirs.close()
    assert ours.recv() == "here"
    with monkeypatch.context() as patch:
        patch.setattr(children, "ORPHAN_LIMIT_S", -1.0)  # the limit is over at once
        assert wait_for_orphans(tmp_path) == "engine"
    ours.close()
    assert wait_for_orphans(tmp_path) is None
    child.join(60)
    assert child.exitcode == 4
