"""Conditional means of a normal distribution, written into a graph.

ONNX solves no systems of equations, so rows are reduced by Gauss and Jordan's elimination, which
needs no search for pivots where matrices are positive definite.
"""

import numpy as np

from skae.interchange._graph import Graph, concat, where


def conditional_means(gaussian, scaled):
    """Scaled rows with conditional means in the place of NaN, as ``gaussian.fill`` has them."""
    missing = scaled.is_nan()
    filled = scaled.cast(np.float64)
    deviations = where(missing, 0.0, filled - gaussian.mean_)
    if hasattr(gaussian, "loadings_"):
        means = gaussian.mean_ + _factors(gaussian, deviations, missing) @ gaussian.loadings_.T
    else:
        means = gaussian.mean_ - _shifts(gaussian, deviations, missing)
    return where(missing, means, filled).cast(scaled.dtype)


def _factors(gaussian, deviations, missing):
    """Posterior means of the factors, all rows at once."""
    n_features, n_factors = gaussian.loadings_.shape
    products = gaussian.loadings_[:, :, None] * gaussian.loadings_[:, None, :]
    observed = (~missing).cast(np.float64)
    system = (observed @ products.reshape(n_features, -1)).reshape(-1, n_factors, n_factors)
    system = system + gaussian.noise_variance_ * np.eye(n_factors)
    force = (deviations @ gaussian.loadings_).expand_dims(-1)
    return _solved(concat([system, force]), system.whole(n_factors), system.whole(range(n_factors)))


def _shifts(gaussian, deviations, missing):
    """How far conditional means are below the means; row by row, as each misses other cells."""
    graph = deviations.graph
    body = Graph(outer=graph)
    pull, gaps = body.value(np.float64), body.value(bool)
    places = gaps.op("NonZero", dtype=np.int64).squeeze(0)
    precision = graph.constant(gaussian.precision_, np.float64)
    matrix = concat(
        [precision.take(places, 0).take(places, 1), pull.take(places, 0).expand_dims(-1)]
    )
    count = places.op("Size")
    numbers = count.graph.op("Range", count.whole(0), count, count.whole(1), dtype=np.int64)
    solution = _solved(matrix.expand_dims(0), count, numbers).squeeze(0)
    nothing = pull.like(np.zeros(len(gaussian.mean_)))
    told = body.op("ScatterElements", nothing, places, solution, dtype=np.float64)
    width = [len(gaussian.mean_)]
    proto = body.proto([(pull, width), (gaps, width)], [(told, width)], "row")
    pulls = deviations @ precision
    return pulls.op("Scan", missing, body=proto, num_scan_inputs=2)


def _solved(matrices, count, numbers):
    """Solutions of systems [A | b] of shape (n, k, k + 1), given k and the numbers below it."""
    body = Graph(outer=matrices.graph)
    step, goes_on, state = body.value(np.int64), body.value(bool), body.value(np.float64)
    row, column = state.take(step, 1), state.take(step, 2)
    pivot = row.take(step, 1).expand_dims(-1)
    column = column - numbers.equals(step).cast(np.float64)
    reduced = state - column.expand_dims(-1) * (row / pivot).expand_dims(1)
    goes_on_still = goes_on.op("Identity")
    proto = body.proto(
        [(step, []), (goes_on, []), (state, None)], [(goes_on_still, []), (reduced, None)], "pivot"
    )
    always = count.graph.constant(True, bool)
    told = matrices.graph.op("Loop", count, always, matrices, dtype=np.float64, body=proto)
    return told.take(-1, 2)
