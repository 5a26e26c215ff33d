"""Helpers of the displays: checks of estimators and data, axes, images and colours."""

import inspect
import math
from functools import partial
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted

# Ten colours that readers with any colour vision can tell apart (Petroff, arXiv:2107.02270).
PALETTE = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#94a4a2"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
BLUE, ORANGE, GREY = "#3f90da", "#e76300", "#717581"
MARKERS = "o^sDvP"
# More different whole numbers than these are a quantity and not classes.
MAX_CLASSES = 20


# Estimators.


def require_matplotlib(display):
    """Raise ImportError before anything is computed; return `matplotlib.pyplot`."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f'{display.__name__} draws with matplotlib: pip install "skae[plotting]".'
        ) from error
    return plt


def fitted(estimator, name, kind="method", *, have_it):
    """Attribute of a fitted estimator; errors name `have_it`, the estimators that have it."""
    if inspect.isclass(estimator) or not hasattr(estimator, "fit"):
        raise TypeError(f"estimator={estimator!r} must be a fitted estimator: {have_it}.")
    if kind == "attribute" or hasattr(estimator, name):
        check_is_fitted(estimator)
    if getattr(estimator, name, None) is None:
        raise TypeError(
            f"estimator={type(estimator).__name__} has no {kind} {name!r}; it must be {have_it}."
        )
    return getattr(estimator, name)


# Data.


def pick(X, rows):
    """Rows of an array, sparse matrix or frame, by a slice or numbers."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return (X if hasattr(X, "shape") else np.asarray(X))[rows]


def as_numbers(name, values, n_dimensions, *, allow_missing=False):
    """Convert to an array of floats, and check it."""
    values = values.toarray() if hasattr(values, "toarray") else values
    try:
        values = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers only: {error}.") from None
    if values.ndim != n_dimensions or values.size == 0:
        raise ValueError(
            f"{name} has shape {values.shape}; it must have {n_dimensions} "
            f"dimension{'s' * (n_dimensions > 1)} and not be empty."
        )
    wrong = np.isinf(values) if allow_missing else ~np.isfinite(values)
    if wrong.any():
        raise ValueError(
            f"{name} holds {values[wrong][0]} at {tuple(map(int, np.argwhere(wrong)[0]))}; "
            "all must be finite."
        )
    return values


def as_labels(y, n_rows):
    """Convert labels to an array of one dimension, and check it."""
    import pandas as pd

    y = np.asarray(y)
    if y.shape != (n_rows,):
        raise ValueError(
            f"y has shape {y.shape}; it must hold one label for each of {n_rows} rows."
        )
    missing = np.flatnonzero(pd.isna(y))
    if len(missing):
        raise ValueError(f"y holds {y[missing[0]]} at {missing[0]}; no label may be missing.")
    return y


def is_quantity(y):
    """Whether labels are numbers with an order rather than classes."""
    if y.dtype.kind not in "iuf":
        return False
    return bool((y != np.round(y)).any()) or len(np.unique(y)) > MAX_CLASSES


def split_by_class(y):
    """(name, mask) of each class, in order."""
    try:
        classes = np.unique(y)
    except TypeError:
        classes = sorted(set(y.tolist()), key=str)
    return [(f"{c:g}" if isinstance(c, float) else str(c), y == c) for c in classes]


def check_integer(name, value, low, high=None):
    allowed = f"an integer from {low}" + (" on" if high is None else f" to {high}")
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be {allowed}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name}={value!r} must be {allowed}.")


# Images.


def as_images(rows, image_shape):
    """Rows as images of shape (n, height, width), or (n, height, width, 3) in colour."""
    shape = tuple(image_shape) if isinstance(image_shape, tuple | list) else ()
    is_shape = len(shape) in (2, 3) and all(isinstance(n, Integral) and n > 0 for n in shape)
    channels_last = len(shape) == 3 and shape[-1] in (1, 3)
    channels_first = len(shape) == 3 and shape[0] in (1, 3) and not channels_last
    is_shape = is_shape and (len(shape) == 2 or channels_last or channels_first)
    if not is_shape or math.prod(shape) != rows.shape[1]:
        raise ValueError(
            f"image_shape={image_shape!r} must be (height, width), (height, width, channels) or "
            f"(channels, height, width), with 1 or 3 channels and as many pixels as there are "
            f"columns, which is {rows.shape[1]}."
        )
    images = rows.reshape(len(rows), *shape)
    if channels_first:
        images = np.moveaxis(images, 1, -1)
    return images[..., 0] if images.shape[3:] == (1,) else images


def draw_images(ax, images, places, limits, **kwargs):
    """Draw images into one axes, each at its (row, column); return their artists."""
    low, high = limits
    if images.ndim == 4:
        images = np.clip((images - low) / max(high - low, np.finfo(float).tiny), 0, 1)
    style = {"cmap": "gray", "interpolation": "nearest", "vmin": low, "vmax": high} | kwargs
    artists = []
    for image, place in zip(images, places, strict=True):
        (top, left), (height, width) = place_of(place, image.shape), image.shape[:2]
        extent = (left, left + width, top + height, top)
        artists.append(ax.imshow(image, extent=extent, **style))
    return artists


def place_of(place, image_shape):
    """Distance of the image at (row, column) from the top and from the left."""
    gap = 0.08 * max(image_shape[:2])
    return tuple(n * (side + gap) for n, side in zip(place, image_shape[:2], strict=False))


def frame_images(ax, shape, image_shape):
    """Show a grid of (rows, columns) images and nothing around it."""
    gap = 0.08 * max(image_shape[:2])
    bottom, right = place_of(shape, image_shape)
    ax.set(xlim=(0, right - gap), ylim=(bottom - gap, 0), xticks=[], yticks=[])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


# Axes.


def line_style(defaults, kwargs):
    """Options of a line; the user's override the defaults, also as "c" or "lw"."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    return defaults | normalize_kwargs(kwargs, Line2D)


def open_axes(display, ax, figsize):
    """The axes to draw into; they are stored in the display."""
    plt = require_matplotlib(type(display))
    from matplotlib.axes import Axes

    if ax is None:
        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    elif not isinstance(ax, Axes):
        raise TypeError(f"ax={ax!r} must be one matplotlib Axes or None.")
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def open_panes(ax, n_panes, n_columns, *, gaps, head):
    """Small axes in a grid in the place of `ax`.

    `gaps` (horizontal, vertical) and the height of the `head` left free above are in
    points, so that text fits whatever the size.
    """
    ax.set_axis_off()
    shape = (math.ceil(n_panes / n_columns), n_columns)
    panes = np.empty(n_panes, dtype=object)
    for i in range(n_panes):
        panes[i] = ax.inset_axes((0, 0, 1, 1))
        panes[i].set_axes_locator(partial(_locate, ax, divmod(i, n_columns), shape, gaps, head))
        panes[i].tick_params(labelsize="x-small")
    return panes


def size_in_points(ax):
    """Width and height of axes."""
    return np.array(ax.get_window_extent().size) * 72 / ax.figure.dpi


def _locate(parent, place, shape, gaps, head, _axes, _renderer):
    """Box of a pane, in fractions of the figure."""
    from matplotlib.transforms import Bbox

    box, figure = parent.get_position(), parent.figure
    # Not figure.bbox, which is smaller while a figure is saved with tight edges.
    point_x, point_y = figure.dpi / 72 / np.ptp(figure.transSubfigure.transform(np.eye(2)), axis=0)
    gap_x, gap_y = gaps[0] * point_x, gaps[1] * point_y
    top = box.y1 - head * point_y
    width = max((box.width - (shape[1] - 1) * gap_x) / shape[1], point_x)
    height = max((top - box.y0 - (shape[0] - 1) * gap_y) / shape[0], point_y)
    row, column = place
    bottom = top - row * (height + gap_y) - height
    return Bbox.from_bounds(box.x0 + column * (width + gap_x), bottom, width, height)


def legend_in_head(ax, handles):
    """A legend of one line in the head that `open_panes` left free."""
    return ax.legend(
        handles=handles,
        loc="upper center",
        ncols=len(handles),
        frameon=False,
        fontsize="small",
        borderaxespad=0,
        borderpad=0,
    )


def makes_room(ax):
    """Whether the layout leaves space for text around axes."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return isinstance(ax.figure.get_layout_engine(), ConstrainedLayoutEngine)


def legend_beside(ax, **kwargs):
    """A legend to the right of the axes if the layout leaves space for it, else inside."""
    style = {"fontsize": "small", "handletextpad": 0.4, "borderaxespad": 0.4} | kwargs
    if makes_room(ax):
        return ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, **style)
    return ax.legend(loc="best", framealpha=0.8, **style)


def format_number(number):
    """Format a number."""
    return f"{number:.3g}".replace("-", "\N{MINUS SIGN}")


def shortened(text, width, letter=5.0):
    """The text, cut to fit a width in points."""
    room = max(int(width / letter), 2)
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"


def quiet_spines(ax):
    """Hide the spines without ticks."""
    ax.spines[["top", "right"]].set_visible(False)
