"""Who belongs to whom: the optimal assignment in a sparse graph of allowed pairs.

Scores (answers to truth) and tracks (detections to predictions) need the same
thing: of all pairs inside a gate, the set in which nobody appears twice and
the total cost is least. The gate splits the graph into small components, and
each is solved exactly (Jonker-Volgenant, in scipy), so the cost grows with
crowding and not with the number of points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["assign"]

IndexArray = NDArray[np.int64]

_NOBODY: IndexArray = np.zeros(0, np.int64)


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
        What it costs to leave a possible partner alone; a pair that costs more is not made.
        Without it the number of pairs comes first, and the total cost decides among the
        sets with most pairs.

    Returns
    -------
    rows, columns : ndarray of int64, shape (P,)
        The pairs made, in increasing order of the rows.
    """
    if len(rows) == 0:
        return _NOBODY, _NOBODY
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
            # Dearer than every allowed set of pairs can be, so that one pair more always wins.
            members_costs = members_costs - members_costs.min()
            forbidden = (members_costs.max() + 1.0) * (min(len(row_names), len(column_names)) + 1)
        dense = np.full((len(row_names), len(column_names)), forbidden)
        allowed = np.zeros(dense.shape, bool)
        dense[row_index, column_index] = np.minimum(members_costs, forbidden)
        allowed[row_index, column_index] = members_costs <= forbidden
        first, second = linear_sum_assignment(dense)
        kept = allowed[first, second]
        parts.append((row_names[first[kept]], column_names[second[kept]]))
    return parts
