"""Blocks of whole shards, and digests of what a reprocessing depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.weights import reference_model
from service.reprocess.recipe import Block, Recipe, blocks_of, frames_digest, in_order, model_digest
from service.store.frames import FrameTimes, RecordedFrames


def recorded(numbers: list[int], planes: list[int]) -> RecordedFrames:
    return RecordedFrames(np.array(planes), FrameTimes.of(numbers, [0.01 * number for number in numbers]))


@pytest.mark.parametrize(
    ("planes", "shard", "least", "expected"),
    [
        (range(20), 8, 8, [(0, 8), (8, 8), (16, 4)]),
        (range(20), 8, 9, [(0, 16), (16, 4)]),
        (range(20), 64, 1, [(0, 20)]),
        ([0, 1, 2, 9, 10, 30], 8, 8, [(0, 3), (3, 2), (5, 1)]),  # planes whose frames were withdrawn
        ([], 8, 8, []),
    ],
)
def test_blocks_are_whole_shards(planes: list[int], shard: int, least: int, expected: list[tuple[int, int]]) -> None:
    blocks = blocks_of(np.array([*planes], np.int64), shard, least)
    assert [(block.first, block.rows) for block in blocks] == expected
    assert [block.number for block in blocks] == list(range(len(expected)))


def test_frames_are_put_in_order() -> None:
    found = in_order(recorded([5, 3, 4], [0, 1, 2]))
    assert found.frames.numbers.tolist() == [3, 4, 5]
    assert found.planes.tolist() == [1, 2, 0]
    assert frames_digest(found) != frames_digest(recorded([5, 3, 4], [0, 1, 2]))


def test_the_digest_is_that_of_the_result_not_of_its_place() -> None:
    blocks, settings = (Block(0, 0, 8),), {"fit": "off"}
    recipe = Recipe("run", "/a/run.ome.zarr", "/a/model", "m", "0", settings, "off", "cpu", 1.5, "f", blocks, "1")
    assert Recipe.of_values(recipe.values()) == recipe
    assert replace(recipe, recording="/b/run.ome.zarr", model="/b/model").digest == recipe.digest
    for changed in ({"model_sha256": "1"}, {"tracking": {"fit": "auto"}}, {"start_s": 1.0}, {"version": "2"}):
        assert replace(recipe, **changed).digest != recipe.digest  # type: ignore[arg-type]


def test_the_digest_of_a_model_changes_with_its_files(tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    for path in reference_model("live").iterdir():
        if path.is_file():
            (place / path.name).write_bytes(path.read_bytes())
    before = model_digest(place)
    assert before == model_digest(reference_model("live"))
    (place / "about.json").write_text("{}")  # its name for people
    assert model_digest(place) == before
    (place / "psf.zarr").mkdir()
    (place / "psf.zarr" / "zarr.json").write_text("{}")
    assert model_digest(place) != before
