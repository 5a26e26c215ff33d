"""What comparisons of numbers of latents need of tables: checks, and the shares of PCA."""

from functools import partial

import numpy as np
from sklearn.utils import check_array

from skae._data._chunks import as_dense
from skae._data._mixed import kinds_of_columns
from skae._data._validation import check_input, to_compute_array
from skae._stats._pca import fit_pca, fit_pca_with_gaps
from skae._stats._scoring import share_explained


def check_table(transformer, X):
    """X in memory, and validated if it holds numbers only; a mixed table stays as it is."""
    X, _ = to_compute_array(X, keep_tensors=False)
    if kinds_of_columns(X, transformer.categorical_features) is not None:
        return X
    return check_input(partial(check_array, estimator=transformer), X, marker=None, input_name="X")


def explained_by_pca(fitted, train, test, sizes):
    """Share of the test rows' variance that the training rows' first components explain.

    In mixed tables, that are components of factor analysis of mixed data, and shares are of what
    ``score`` sums up.
    """
    if fitted._columns is not None:
        return _explained_by_famd(fitted, train, test, sizes)
    pca = fit_pca(as_dense(train).astype(np.float64), min(max(sizes), *train.shape))
    centred = as_dense(test) - pca.mean
    explained = np.square(centred @ pca.directions.T).sum(axis=0)
    total = np.square(centred).sum()
    return [share_explained(total - explained[:size].sum(), total) for size in sizes]


def _explained_by_famd(fitted, train, test, sizes):
    scaler = fitted._scaler
    rows, test = (
        scaler.transform(fitted._check_rows(X, reset=False)).astype(np.float64)
        for X in (train, test)
    )
    total = np.nansum(scaler.column_errors(test - scaler.baseline))
    shares = []
    for size in sizes:
        k = min(size, *rows.shape)
        has_gaps = np.isnan(rows).any()
        pca = fit_pca_with_gaps(rows, k, k) if has_gaps else fit_pca(rows, k)
        scores = (np.nan_to_num(test) - pca.mean) @ pca.directions.T
        errors = scaler.column_errors(test - (pca.mean + scores @ pca.directions))
        shares.append(share_explained(np.nansum(errors), total))
    return shares
