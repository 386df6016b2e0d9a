"""Optimal assignment in a sparse graph of allowed pairs.

Scores (localizations to truth) and tracks (localizations to predictions) need
the same result: of all pairs inside a gate, the set of least total cost in
which no row or column occurs twice. The gate splits the graph into small
components. Each is solved exactly (Jonker-Volgenant, in scipy), so the cost
grows with crowding and not with the number of points. Components of thousands
of points are solved as sparse graphs: their matrix would not fit into memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

__all__ = ["assign"]

IndexArray = NDArray[np.int64]

# Cells of a component's matrix up to which the dense solver is the faster one: 300 x 300.
_DENSE_CELLS = 90_000

_NO_PAIRS: IndexArray = np.zeros(0, np.int64)


def assign(
    rows: IndexArray,
    columns: IndexArray,
    costs: NDArray[np.float64],
    shape: tuple[int, int],
    unpaired_cost: float | None = None,
) -> tuple[IndexArray, IndexArray]:
    """Pair rows with columns at the least total cost.

    Parameters
    ----------
    rows, columns : ndarray of int64, shape (K,)
        The allowed pairs, each once.
    costs : ndarray of float64, shape (K,)
        Cost of each allowed pair, finite.
    shape : tuple of int
        Number of rows and of columns.
    unpaired_cost : float, optional
        Cost of leaving a row or column unpaired; a pair that costs more is rejected. Without it the number of
        pairs is maximized first, and then the total cost minimized.

    Returns
    -------
    rows, columns : ndarray of int64, shape (P,)
        The pairs made, in increasing order of the rows.
    """
    if len(rows) == 0:
        return _NO_PAIRS, _NO_PAIRS
    row_degree = np.bincount(rows, minlength=shape[0])
    column_degree = np.bincount(columns, minlength=shape[1])
    alone = (row_degree[rows] == 1) & (column_degree[columns] == 1)
    made = alone if unpaired_cost is None else alone & (costs <= unpaired_cost)
    parts = [(rows[made], columns[made])]
    crowded = np.flatnonzero(~alone)
    if len(crowded):
        parts += _solve_components(rows[crowded], columns[crowded], costs[crowded], shape, unpaired_cost)
    paired_rows = np.concatenate([part[0] for part in parts])
    paired_columns = np.concatenate([part[1] for part in parts])
    order = np.argsort(paired_rows, kind="stable")
    return paired_rows[order], paired_columns[order]


def _solve_components(
    rows: IndexArray,
    columns: IndexArray,
    costs: NDArray[np.float64],
    shape: tuple[int, int],
    unpaired_cost: float | None,
) -> list[tuple[IndexArray, IndexArray]]:
    nodes = shape[0] + shape[1]
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns + shape[0])), shape=(nodes, nodes))
    labels = connected_components(graph.tocsr(), directed=False)[1][rows]
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    parts = []
    for members in np.split(order, starts):
        row_names, row_index = np.unique(rows[members], return_inverse=True)
        column_names, column_index = np.unique(columns[members], return_inverse=True)
        members_costs = costs[members]
        forbidden = unpaired_cost
        if forbidden is None:
            # More than the cost of any allowed set of pairs, so that one more pair is always better.
            members_costs = members_costs - members_costs.min()
            forbidden = (members_costs.max() + 1.0) * (min(len(row_names), len(column_names)) + 1)
        solve = _solve_dense if len(row_names) * len(column_names) <= _DENSE_CELLS else _solve_sparse
        first, second = solve(row_index, column_index, members_costs, (len(row_names), len(column_names)), forbidden)
        parts.append((row_names[first], column_names[second]))
    return parts


def _solve_dense(
    rows: IndexArray, columns: IndexArray, costs: NDArray[np.float64], shape: tuple[int, int], forbidden: float
) -> tuple[IndexArray, IndexArray]:
    dense = np.full(shape, forbidden)
    allowed = np.zeros(shape, bool)
    dense[rows, columns] = np.minimum(costs, forbidden)
    allowed[rows, columns] = costs <= forbidden
    first, second = linear_sum_assignment(dense)
    kept = allowed[first, second]
    return first[kept], second[kept]


def _solve_sparse(
    rows: IndexArray, columns: IndexArray, costs: NDArray[np.float64], shape: tuple[int, int], forbidden: float
) -> tuple[IndexArray, IndexArray]:
    """The same with memory for the allowed pairs alone: each row has a column of its own for staying unpaired."""
    allowed = costs <= forbidden
    all_rows = np.arange(shape[0])
    weights = np.concatenate([costs[allowed], np.full(shape[0], forbidden)])
    # Every row is paired, so a constant added to all weights changes nothing; a weight of 0 would be no edge.
    weights += 1.0 - weights.min()
    graph = coo_array(
        (weights, (np.concatenate([rows[allowed], all_rows]), np.concatenate([columns[allowed], shape[1] + all_rows]))),
        shape=(shape[0], shape[1] + shape[0]),
    )
    first, second = min_weight_full_bipartite_matching(graph.tocsr())
    kept = second < shape[1]
    return first[kept].astype(np.int64), second[kept].astype(np.int64)
