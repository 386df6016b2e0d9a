"""The sparse assignment against every possible assignment of small graphs."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import assignment
from models.assignment import assign


def _every_set(rows: int, columns: int, costs: dict[tuple[int, int], float]) -> list[tuple[int, float]]:
    """(number of pairs, total cost) of every set of allowed pairs in which nobody appears twice."""
    sets = []
    for size in range(min(rows, columns) + 1):
        for chosen in combinations(range(rows), size):
            for partners in permutations(range(columns), size):
                pairs = list(zip(chosen, partners, strict=True))
                if all(pair in costs for pair in pairs):
                    sets.append((size, sum(costs[pair] for pair in pairs)))
    return sets


_graphs = st.integers(1, 4).flatmap(
    lambda rows: st.integers(1, 4).flatmap(
        lambda columns: st.tuples(
            st.just(rows),
            st.just(columns),
            st.dictionaries(
                st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1)), st.floats(-20, 20), max_size=12
            ),
        )
    )
)


def _solve(
    rows: int, columns: int, costs: dict[tuple[int, int], float], unpaired: float | None
) -> list[tuple[int, int]]:
    pairs = np.array(list(costs), np.int64).reshape(-1, 2)
    found = assign(pairs[:, 0], pairs[:, 1], np.array(list(costs.values())), (rows, columns), unpaired)
    return list(zip(found[0].tolist(), found[1].tolist(), strict=True))


@settings(deadline=None, max_examples=150, derandomize=True)
@given(_graphs)
def test_most_pairs_then_least_cost(graph: tuple[int, int, dict[tuple[int, int], float]]) -> None:
    rows, columns, costs = graph
    pairs = _solve(rows, columns, costs, None)
    most, least = min((-size, cost) for size, cost in _every_set(rows, columns, costs))
    assert len(pairs) == -most
    assert sum(costs[pair] for pair in pairs) == pytest.approx(least, abs=1e-9)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)


@settings(deadline=None, max_examples=150, derandomize=True)
@given(_graphs, st.floats(-20, 20))
def test_leaving_alone_has_its_price(graph: tuple[int, int, dict[tuple[int, int], float]], unpaired: float) -> None:
    rows, columns, costs = graph
    pairs = _solve(rows, columns, costs, unpaired)
    assert all(costs[pair] <= unpaired for pair in pairs)
    # Each pair replaces one loneliness: the saving is what counts.
    saving = sum(unpaired - costs[pair] for pair in pairs)
    assert saving == pytest.approx(
        max(size * unpaired - cost for size, cost in _every_set(rows, columns, costs)), abs=1e-9
    )


def test_nothing_allowed() -> None:
    none = np.zeros(0, np.int64)
    assert [len(part) for part in assign(none, none, np.zeros(0), (3, 2))] == [0, 0]


@pytest.mark.parametrize("unpaired", [None, 6.0])
def test_crowds_are_solved_alike_as_graph_and_as_matrix(
    unpaired: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(5)
    first, second = random.uniform(0, 100, (2, 400, 2))
    distance = np.linalg.norm(first[:, None] - second[None, :390], axis=2)
    rows, columns = np.nonzero(distance < 9)
    costs = distance[rows, columns]
    found = []
    for cells in (0, 10**9):
        monkeypatch.setattr(assignment, "_DENSE_CELLS", cells)
        pairs = assign(rows, columns, costs, distance.shape, unpaired)
        assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == len(pairs[0])
        found.append((len(pairs[0]), distance[pairs].sum()))
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert found[0][0] > 300


def test_a_crowd_of_tens_of_thousands_needs_no_matrix() -> None:
    """As a matrix this chain would take 20 GB."""
    count = 50_000
    places = np.arange(count)
    rows, columns = np.concatenate([places, places[1:]]), np.concatenate([places, places[:-1]])
    costs = np.concatenate([np.full(count, 1.0), np.full(count - 1, 2.0)])
    pairs = assign(rows, columns, costs, (count, count))
    assert np.array_equal(pairs[0], pairs[1])
    assert len(pairs[0]) == count
