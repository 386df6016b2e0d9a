"""What a frame shows: its histogram and its saturated pixels."""

from __future__ import annotations

import numpy as np
import pytest

from service.pictures import histogram, saturated


@pytest.mark.parametrize("shape", [(3, 5), (64, 48), (300, 1000), (2048, 2048)])
def test_every_sampled_pixel_is_in_the_bin_of_its_count(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(100, 4000, shape).astype(np.uint16)
    shares = histogram(pixels)
    step = -(-max(shape) // 256)
    sample = pixels[::step, ::step].ravel().astype(int)
    assert shares.low_adu == sample.min()
    assert len(shares.pixels) <= 256
    assert len(shares.pixels) * shares.bin_adu > sample.max() - shares.low_adu
    edges = shares.low_adu + shares.bin_adu * np.arange(len(shares.pixels) + 1)
    assert shares.pixels.tolist() == np.histogram(sample, edges - 0.5)[0].tolist()


def test_a_flat_frame_and_the_whole_range_have_a_histogram() -> None:
    flat = histogram(np.full((8, 8), 65_535, np.uint16))
    assert (flat.low_adu, flat.bin_adu, flat.pixels.tolist()) == (65_535, 1, [64])
    whole = histogram(np.array([[0, 65_535]], np.uint16))
    assert (whole.low_adu, whole.bin_adu, whole.pixels.sum(), len(whole.pixels)) == (0, 256, 2, 256)


def test_saturated_is_what_has_the_highest_count_of_the_camera() -> None:
    pixels = np.array([[4094, 4095], [4096, 0]], np.uint16)
    assert saturated(pixels, 12) == 2
    assert saturated(pixels, 16) == 0
