"""Marginal distribution of one column, in generated rows and in real ones."""

import numpy as np

from skae.plotting._common import BLUE, GREY, shortened

# Numbers with at most this many distinct values are levels; the rarest of more levels are pooled.
MAX_BARS = 10
N_BINS = 25
# In points: width of a letter of a level's name, least width of horizontal names, height of
# upright names.
LETTER, UPRIGHT_BELOW, UPRIGHT_HEIGHT = 4.4, 24, 27


class Marginal:
    """One column of generated rows and perhaps of real ones, as pandas series."""

    def __init__(self, generated, real):
        import pandas as pd

        self.columns = [generated] if real is None else [generated, real]
        both = pd.concat(self.columns, ignore_index=True)
        kinds = pd.api.types
        self.is_date = kinds.is_datetime64_any_dtype(both)
        is_number = kinds.is_numeric_dtype(both) and not kinds.is_bool_dtype(both)
        present = both.dropna()
        is_coded = is_number and present.nunique() <= MAX_BARS and bool((present % 1 == 0).all())
        self.has_levels = is_coded or not (is_number or self.is_date)
        if self.has_levels:
            self.columns = [_as_text(column) for column in self.columns]
            self.levels = _ordered_levels(self.columns, by_size=is_coded)

    def is_upright(self, width):
        """Whether axes of this width have no room for horizontal names of levels."""
        if not self.has_levels:
            return False
        width /= len(self.levels)
        return width < UPRIGHT_BELOW and max(map(len, self.levels)) * LETTER > width

    def draw(self, pane, width, kwargs):
        """Draw into axes of a width in points; return the artists of both kinds of rows."""
        pane.set_yticks([])
        pane.spines[["left", "top", "right"]].set_visible(False)
        pane.tick_params(labelsize="x-small")
        if self.has_levels:
            self._name_levels(pane, width)
            return self._draw_levels(pane, kwargs)
        return self._draw_histogram(pane, kwargs)

    def _name_levels(self, pane, width):
        """Label levels; names are cut, or upright, if there is no room."""
        is_upright = self.is_upright(width)
        room = UPRIGHT_HEIGHT if is_upright else width / len(self.levels)
        names = [shortened(level, room, LETTER) for level in self.levels]
        pane.set_xticks(range(len(names)), names, rotation=90 if is_upright else 0)
        pane.tick_params(axis="x", length=0)

    def _draw_levels(self, pane, kwargs):
        shares = [_shares(column, self.levels) for column in self.columns]
        places = np.arange(len(self.levels))
        real, width, shift = None, 0.7, 0.0
        if len(shares) > 1:
            width, shift = 0.4, 0.2
            real = pane.bar(places + shift, shares[1], width, color=GREY, alpha=0.4)
        generated = pane.bar(places - shift, shares[0], width, **{"color": BLUE} | kwargs)
        return generated, real

    def _draw_histogram(self, pane, kwargs):
        from matplotlib.ticker import MaxNLocator

        columns = [self._as_floats(column.dropna()) for column in self.columns]
        edges = np.histogram_bin_edges(np.concatenate(columns), N_BINS)
        heights = [np.histogram(column, edges, density=len(column) > 0)[0] for column in columns]
        real = None
        if len(heights) > 1:
            real = pane.stairs(heights[1], edges, fill=True, color=GREY, alpha=0.4)
        style = {"fill": real is None, "color": BLUE, "linewidth": 1.3} | kwargs
        generated = pane.stairs(heights[0], edges, **style)
        pane.set_ylim(bottom=0)
        pane.xaxis.set_major_locator(MaxNLocator(2))
        if self.is_date:
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator(minticks=2, maxticks=3)
            pane.xaxis.set_major_locator(locator)
            pane.xaxis.set_major_formatter(ConciseDateFormatter(locator, show_offset=False))
        return generated, real

    def _as_floats(self, column):
        if self.is_date:
            from matplotlib.dates import date2num

            return np.asarray(date2num(column.dt.tz_localize(None).to_numpy()))
        return column.to_numpy(dtype=np.float64)


def _as_text(column):
    """Levels as text; that of missing cells is "missing"."""
    cells = zip(column.tolist(), column.isna(), strict=True)
    return np.array(["missing" if gap else _written(level) for level, gap in cells], dtype=object)


def _written(level):
    return f"{level:g}" if isinstance(level, float) else str(level)


def _ordered_levels(columns, *, by_size):
    """Numbers by size; other levels from the most frequent on, the rest as "other"."""
    levels, counts = np.unique(np.concatenate(columns), return_counts=True)
    if by_size:
        return sorted(levels, key=lambda level: np.inf if level == "missing" else float(level))
    levels = levels[np.argsort(-counts, kind="stable")].tolist()
    return levels if len(levels) <= MAX_BARS else [*levels[: MAX_BARS - 1], "other"]


def _shares(column, levels):
    """Share of each level; "other" as the last one stands for all that are not listed."""
    shares = [float(np.mean(column == level)) for level in levels]
    if levels[-1] == "other":
        shares[-1] = 1.0 - sum(shares[:-1])
    return shares
