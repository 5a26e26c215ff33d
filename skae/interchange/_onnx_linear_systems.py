"""Write conditional means of normal distributions into a graph.

ONNX has no operator that solves linear systems, so they are solved by Gauss-Jordan elimination,
which needs no pivoting as the matrices are positive definite. The formulas are those of
_stats/_gaussian.py.
"""

import numpy as np

from skae.interchange._graph import Graph, concat, where


def conditional_means(gaussian, scaled):
    """Scaled rows with NaN replaced by conditional means, as by ``gaussian.fill``."""
    missing = scaled.is_nan()
    filled = scaled.cast(np.float64)
    deviations = where(missing, 0.0, filled - gaussian.mean_)
    if hasattr(gaussian, "loadings_"):
        means = gaussian.mean_ + _factors(gaussian, deviations, missing) @ gaussian.loadings_.T
    else:
        means = gaussian.mean_ - _shifts(gaussian, deviations, missing)
    return where(missing, means, filled).cast(scaled.dtype)


def _factors(gaussian, deviations, missing):
    """``FactorGaussian._factors``: posterior means, of all rows at once."""
    n_features, n_factors = gaussian.loadings_.shape
    products = gaussian.loadings_[:, :, None] * gaussian.loadings_[:, None, :]
    observed = (~missing).cast(np.float64)
    matrices = (observed @ products.reshape(n_features, -1)).reshape(-1, n_factors, n_factors)
    matrices = matrices + gaussian.noise_variance_ * np.eye(n_factors)
    right = (deviations @ gaussian.loadings_).expand_dims(-1)
    rows = matrices.whole(range(n_factors))
    return _solved(concat([matrices, right]), matrices.whole(n_factors), rows)


def _shifts(gaussian, deviations, missing):
    """Means minus conditional means; row by row, as each has other missing cells."""
    graph = deviations.graph
    body = Graph(outer=graph)
    products, missing_row = body.value(np.float64), body.value(bool)
    cells = missing_row.op("NonZero", dtype=np.int64).squeeze(0)
    precision = graph.constant(gaussian.precision_, np.float64)
    matrix = concat(
        [precision.take(cells, 0).take(cells, 1), products.take(cells, 0).expand_dims(-1)]
    )
    count = cells.op("Size")
    steps = count.graph.op("Range", count.whole(0), count, count.whole(1), dtype=np.int64)
    solution = _solved(matrix.expand_dims(0), count, steps).squeeze(0)
    zeros = products.like(np.zeros(len(gaussian.mean_)))
    shifts = body.op("ScatterElements", zeros, cells, solution, dtype=np.float64)
    width = [len(gaussian.mean_)]
    proto = body.proto([(products, width), (missing_row, width)], [(shifts, width)], "row")
    # One more row, which misses nothing: onnxruntime's Scan fails without any.
    more = np.zeros((1, *width))
    rows = concat([deviations @ precision, deviations.like(more)], axis=0)
    missing = concat([missing, missing.like(more)], axis=0)
    return rows.op("Scan", missing, body=proto, num_scan_inputs=2).slice(0, -1, axis=0)


def _solved(matrices, count, rows):
    """Solutions of systems [A | b] of shape (n, k, k + 1), given k and ``range(k)``."""
    body = Graph(outer=matrices.graph)
    step, goes_on, state = body.value(np.int64), body.value(bool), body.value(np.float64)
    row, column = state.take(step, 1), state.take(step, 2)
    pivot = row.take(step, 1).expand_dims(-1)
    column = column - rows.equals(step).cast(np.float64)
    reduced = state - column.expand_dims(-1) * (row / pivot).expand_dims(1)
    goes_on_still = goes_on.op("Identity")
    proto = body.proto(
        [(step, []), (goes_on, []), (state, None)], [(goes_on_still, []), (reduced, None)], "pivot"
    )
    always = count.graph.constant(True, bool)
    reduced_matrices = matrices.graph.op(
        "Loop", count, always, matrices, dtype=np.float64, body=proto
    )
    return reduced_matrices.take(-1, 2)
