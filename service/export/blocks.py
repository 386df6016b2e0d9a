"""Tracks in blocks of rows: what the writers of formats take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from models.tables import Tracks

__all__ = ["counted", "located", "of_equal_length", "sorted_blocks"]


def sorted_blocks(tracks: Tracks, rows: int = 65_536) -> Iterator[Tracks]:
    """The rows of a table by track, then by frame, in blocks of at most `rows` rows."""
    order = np.lexsort((tracks.frame, tracks.track_id))
    for begin in range(0, len(order), rows):
        yield tracks.select(order[begin : begin + rows])


def of_equal_length(blocks: Iterable[Tracks], rows: int) -> Iterator[Tracks]:
    """The same rows in blocks of exactly `rows` rows; only the last may be shorter."""
    held: list[Tracks] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count < rows:
            continue
        whole = Tracks.concatenate(held)
        for begin in range(0, count - rows + 1, rows):
            yield whole.select(slice(begin, begin + rows))
        rest = whole.select(slice(count - count % rows, count))
        held, count = [rest], len(rest)
    if count:
        yield Tracks.concatenate(held)


def located(blocks: Iterable[Tracks]) -> Iterator[Tracks]:
    """The same rows without those that have no position or time, which only tables can hold."""
    for block in blocks:
        known = np.isfinite(block.t_s + block.x_um + block.y_um + block.z_um)
        yield block if known.all() else block.select(known)


def counted(blocks: Iterable[Tracks], report: Callable[[int], None]) -> Iterator[Tracks]:
    """The same blocks; `report` gets the number of rows so far, after each block was used."""
    done = 0
    report(done)
    for block in blocks:
        yield block
        done += len(block)
        report(done)
