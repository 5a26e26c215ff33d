"""How a denoiser cleans and fills tables of numbers, levels and dates."""

import numpy as np

from skae._data._chunks import as_dense, row_chunks
from skae._data._fitted_arrays import numpy_array
from skae._data._polars_frames import polars_of
from skae._data._shards import is_sharded
from skae._sklearn import output_container, safe_indexing
from skae._stats._scoring import share_explained
from skae.estimators._limits import limits_of_columns

N_SCORE_ROUNDS = 5  # each hides a fifth of the cells


def encoded_answers(model, X, chosen):
    """Yield numbers of rows, and these rows encoded: as they are, and as they are cleaned.

    What stands for the indicators of a level that was missing, stands for their probabilities.
    """
    scaler, transform = model._scaler, model._feed(None).input_transform
    column_of = scaler.column_of
    empty, stays = model._empty[column_of], model._keeps_observed
    doubt = (1 - numpy_array(model, "observed_blend_"))[column_of]
    for span, inputs, output in model.net_.denoised_rows(model._rows(X, chosen)):
        rows = chosen[span]
        scaled = scaler.transform(X[rows])
        scaled[:, empty] = np.nan
        gaps = np.isnan(scaled)
        fill = transform.filled(inputs)
        answer = np.where(gaps, fill + model.blend_ * (output - fill), output)
        if not model._only_fills:
            answer += np.where(gaps, 0.0, doubt * (scaled - answer))
        yield rows, scaled, np.where(~gaps & stays, scaled, answer)


def clean_table(model, X, draws=None):
    """Rows of numbers, ticks and codes without gaps; those missing are drawn if `draws` is given.

    Levels are drawn one after the other, each given those before, and numbers given all levels.
    """
    scaler, feed = model._scaler, model._feed(None)
    out = np.array(as_dense(X), dtype=np.float64)
    missing = np.isnan(out)
    if draws is not None:
        draw_levels(model, out, draws)
    stays = ~np.isnan(out) & (model._keeps_observed | model._empty | missing)
    wanted = np.flatnonzero(~stays.all(axis=1))
    for rows, scaled, answer in encoded_answers(model, out, wanted):
        cells = scaler.inverse_transform(answer)
        if draws is not None:
            moved = answer + numpy_array(model, "_spread") * feed.deviations(scaled, draws)
            flags = cells > draws.random(cells.shape)
            cells[:, scaler.of_numbers] = scaler.inverse_transform(moved)[:, scaler.of_numbers]
            cells = np.where(flag_columns(model) & missing[rows], flags, cells)
        out[rows] = np.where(stays[rows], out[rows], as_in_fit(model, cells))
    return within_limits(model, out, missing)


def draw_levels(model, out, draws):
    """Fill the missing levels of rows by draws, each given those that are known by then."""
    scaler = model._scaler
    codes, spans = scaler.of_codes, scaler.spans
    while len(rows := np.flatnonzero(np.isnan(out[:, codes]).any(axis=1))):
        is_missing = np.isnan(out[np.ix_(rows, codes)])
        order = np.where(is_missing, draws.random(is_missing.shape), -1.0)
        following = np.full(len(out), -1)  # which one is next is random in each row
        following[rows] = order.argmax(axis=1)
        for part, _, answer in encoded_answers(model, out, rows):
            probabilities = scaler.probabilities(answer).clip(0.0)
            for i, (j, span) in enumerate(spans):
                chosen = np.flatnonzero(following[part] == i)
                heads = probabilities[chosen, span].cumsum(axis=1)
                marks = draws.random((len(chosen), 1)) * heads[:, -1:]
                out[part[chosen], j] = (heads <= marks).sum(axis=1).clip(max=heads.shape[1] - 1)


def as_in_fit(model, cells):
    """Whole numbers where those of ``fit`` were, flags as 0 or 1, and constants as they were."""
    whole = numpy_array(model, "_whole")
    cells[:, whole] = np.rint(cells[:, whole])
    flags = flag_columns(model)
    cells[:, flags] = cells[:, flags].clip(0.0, 1.0)
    numbers = model._scaler.numbers_
    if numbers is not None:
        equal = numbers.data_min_ == numbers.data_max_
        cells[:, model._scaler.of_numbers[equal]] = numbers.data_min_[equal]
    return cells


def within_limits(model, out, missing):
    """Filled cells, kept between `min_value` and `max_value`."""
    limits = limits_of_columns(model)
    if limits is None:
        return out
    return np.where(missing, out.clip(*limits), out)


def whole_columns(model, X):
    """Mask of the columns of numbers and ticks whose cells are all whole."""
    is_whole = _are_whole(X)
    is_whole[model._scaler.of_codes] = False
    return is_whole & ~model._empty


def _are_whole(X):
    if is_sharded(X):
        return np.all(X.on_each(_are_whole), axis=0)
    is_whole = np.ones(X.shape[1], dtype=bool)
    for _, chunk in row_chunks(X):
        is_whole &= (np.isnan(chunk) | (chunk == np.rint(chunk))).all(axis=0)
    return is_whole


def flag_columns(model):
    """Mask of the columns of numbers that were 0 and 1 in ``fit``, and nothing else."""
    scaler, mask = model._scaler, numpy_array(model, "_whole").copy()
    if scaler.numbers_ is not None:
        is_flag = (scaler.numbers_.data_min_ == 0) & (scaler.numbers_.data_max_ == 1)
        mask[scaler.of_numbers] &= is_flag
    mask &= [column.origin is None for column in model._columns.columns]
    return mask


def restored_table(model, numbers, like, to_input_type, indicators=None):
    """Numbers, ticks and codes in the container of ``fit``, with indicators of gaps behind them."""
    columns = model._columns
    # There is no level or date to fill an empty column with.
    unknown = [c.levels == [] or c.origin is not None for c in columns.columns]
    numbers = np.where(unknown & model._empty, np.nan, numbers)
    wanted = output_container(model)
    if wanted == "pandas":
        table = columns.restore_pandas(numbers, like)
    elif wanted == "polars" and columns.container != "polars":
        table = polars_of(columns.restore_pandas(numbers, like))
    else:
        table = columns.restore(numbers, like)
    if len(model._kept_columns) < model.n_features_in_:
        table = safe_indexing(table, model._kept_columns, axis=1)
    if indicators is not None:
        table = _beside(table, indicators, list(model.get_feature_names_out()))
    is_array = columns.container == "array" and isinstance(table, np.ndarray)
    return to_input_type(table) if is_array else table


def _beside(table, indicators, names):
    """A table with more columns behind it; `names` are those of all."""
    if isinstance(table, np.ndarray):
        return np.hstack([table, indicators])
    if hasattr(table, "iloc"):
        import pandas as pd

        # Names that are numbers beside strings are an error to scikit-learn.
        marks = pd.DataFrame(indicators, table.index, names[table.shape[1] :])
        return pd.concat([table.set_axis(names[: table.shape[1]], axis=1), marks], axis=1)
    return table.hstack(type(table)(indicators, schema=names[table.shape[1] :], orient="row"))


def share_filled(model, X, clean, weight):
    """Share explained of the cells of a mixed table that are hidden in turn, or cleaned."""
    scaler, sums, draws = model._scaler, np.zeros(2), np.random.RandomState(0)
    for span, rows in row_chunks(X):
        truth = scaler.transform((X if clean is None else clean)[span])
        errors = np.full(rows.shape, np.nan)
        rounds = draws.randint(N_SCORE_ROUNDS, size=rows.shape)
        masks = [rounds == i for i in range(N_SCORE_ROUNDS)]
        for mask in masks if clean is None else [np.ones(rows.shape, dtype=bool)]:
            shown = np.where(mask, np.nan, rows) if clean is None else rows
            for part, _, answer in encoded_answers(model, shown, np.arange(len(rows))):
                found = scaler.column_errors(answer - truth[part])
                errors[part] = np.where(mask[part], found, errors[part])
        distances = scaler.column_errors(truth - scaler.baseline)
        for i, part in enumerate((errors, distances)):
            # Cells whose truth is unknown do not count.
            sums[i] += weight[span] @ np.nan_to_num(part)[:, ~model._empty].sum(axis=1)
    return share_explained(*sums)
