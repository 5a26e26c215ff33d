"""Find relations between numbers: sums, products, remainders and inequalities."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular

from skae._data._formulas import quoted
from skae._data._relation_evidence import (
    MIN_NEAR,
    MIN_OTHERS,
    MIN_ROWS,
    MIN_SURPRISES,
    Cells,
    ends_at_zero,
    share_above,
)
from skae.relations import Formula, Inequality, Sum

Array = NDArray[Any]
# Divisors of quotients and remainders that are tried.
DIVISORS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 24, 30, 60, 100, 365, 1000, 1440, 3600, 10_000, 86_400)
# Most terms of a sum and of a formula.
MAX_PARTS, MAX_TERMS = 20, 3
# Most columns of numbers of which products are looked for.
MAX_FACTORS = 40
# Rows that a candidate is tried in first.
N_PROBES = 12
# Columns whose values overlap less hardly ever break an inequality in drawn rows.
MIN_SHARE_ABOVE = 0.02


def find_sums(search: Any) -> None:
    """Exact linear dependencies among numbers, and among dates and durations."""
    for kinds in (("number", "flag"), ("date", "lapse")):
        keys = [k for k in search.keys(kinds) if search.cells[k].varies]
        while len(keys) > 1:
            found = next((r for r in _dependencies(search, keys, kinds) if search.offer(r)), None)
            if found is None:
                break
            keys = [k for k in keys if k in search.free]


def _dependencies(search: Any, keys: list[int], kinds: tuple[str, ...]) -> list[Any]:
    """Relations that dependent columns may be in, those of few terms first."""
    values = np.column_stack([search.cells[k].unit.to_values(search.cells[k].x) for k in keys])
    known = ~np.isnan(values)
    while known.shape[1] > 1 and known.all(axis=1).sum() < 2 * known.shape[1] + MIN_ROWS:
        gappiest = int(known.sum(axis=0).argmin())
        values, known = (np.delete(part, gappiest, axis=1) for part in (values, known))
        keys = keys[:gappiest] + keys[gappiest + 1 :]
    values = values[known.all(axis=1)][:2000]
    deviations = values.std(axis=0)
    varies = deviations > 0
    values, deviations, keys = (
        values[:, varies],
        deviations[varies],
        [k for k, v in zip(keys, varies, strict=True) if v],
    )
    if len(keys) < 2:
        return []
    scaled = (values - values.mean(axis=0)) / deviations
    (r, pivots) = qr(scaled, mode="r", pivoting=True)
    sizes = np.abs(np.diag(r[: len(keys)]))
    is_single = any(search.cells[k].unit.is_single for k in keys)
    rank = int((sizes > (1e-5 if is_single else 1e-9) * np.sqrt(len(values))).sum())
    if rank == len(keys):
        return []
    shares = solve_triangular(r[:rank, :rank], r[:rank, rank:])
    out = []
    for i, j in enumerate(pivots[rank:]):
        slopes = shares[:, i] * deviations[j] / deviations[pivots[:rank]]
        terms = np.abs(shares[:, i]) > 1e-6
        parts = [keys[p] for p in pivots[:rank][terms]]
        intercept = float(np.mean(values[:, j] - values[:, pivots[:rank][terms]] @ slopes[terms]))
        intercept = 0.0 if abs(intercept) < 1e-7 * np.abs(values[:, j]).max() else intercept
        out.append((len(parts), _relation(search, keys[j], parts, slopes[terms], intercept, kinds)))
    return [relation for _, relation in sorted(out, key=lambda pair: pair[0]) if relation]


def _relation(
    search: Any, key: int, parts: list[int], slopes: Array, intercept: float, kinds: tuple[str, ...]
) -> Any:
    """The relation of column `key`, which is ``slopes @ parts + intercept``; None if too odd."""
    names, n_parts = search.plan.names, len(parts)
    if n_parts > 1:
        # Sums of flags that exclude each other have other values in drawn rows.
        parts_of_flags = [k for k in (key, *parts) if search.cells[k].n_values < 3]
        if key in parts_of_flags or len(parts_of_flags) == n_parts + 1:
            return None
    are_units = np.allclose(np.abs(slopes), 1.0, rtol=1e-6)
    if are_units and not intercept and 1 < len(parts) <= MAX_PARTS:
        sides: dict[bool, list[int]] = {True: [key], False: []}
        for part, slope in zip(parts, slopes, strict=True):
            sides[slope < 0].append(part)
        for side, other in ((True, False), (False, True)):
            if len(sides[side]) == 1 and search.cells[sides[side][0]].n_values > 2:
                return Sum(names[sides[side][0]], [names[k] for k in sorted(sides[other])])
    if "date" in kinds:
        if are_units and not intercept and len(parts) == 1 and slopes[0] > 0:
            low, high = sorted([key, parts[0]])
            return Sum(names[high], [names[low]])
        return None
    if len(parts) > MAX_TERMS:
        return None
    if len(parts) == 1:  # of two ways, the one of shorter numbers
        ways = [
            (key, parts[0], float(slopes[0]), intercept),
            (parts[0], key, 1 / float(slopes[0]), -intercept / float(slopes[0])),
        ]
        ways.sort(key=lambda way: (len(_short(way[2]) + _short(way[3])), -way[0]))
        key, parts, slopes, intercept = ways[0][0], [ways[0][1]], np.array([ways[0][2]]), ways[0][3]
    order = np.argsort(parts)
    text = " + ".join(_term(search, parts[i], float(slopes[i])) for i in order)
    text += f" + {_short(intercept)}" if intercept else ""
    return Formula(names[key], text.replace("+ -", "- "))


def _term(search: Any, key: int, slope: float) -> str:
    name = quoted(search.plan.variable(key))
    short = _short(slope)
    return name if short == "1" else f"-{name}" if short == "-1" else f"{short} * {name}"


def _short(number: float) -> str:
    """A number to nine digits, without those that rounding made."""
    return f"{float(f'{number:.9g}'):.12g}"


def find_products(search: Any) -> None:
    """Products and quotients of two columns, and sums that are rounded."""
    keys = [k for k in search.keys(("number",)) if search.cells[k].n_others >= MIN_SURPRISES]
    keys = keys[:MAX_FACTORS]
    if len(keys) < 3:
        return
    cells = [search.cells[k] for k in keys]
    values = np.column_stack([c.x for c in cells])
    for symbol, ordered in (("*", False), ("+", False), ("/", True), ("-", True)):
        for i, target in enumerate(cells):
            if target.n_values < MIN_OTHERS or keys[i] not in search.free:
                continue
            for a, b in _candidates(values, i, target, symbol, ordered):
                names = [quoted(search.plan.variable(keys[k])) for k in (a, b)]
                expression = f"{names[0]} {symbol} {names[1]}"
                is_trivial = _matches_alone(target, values[:, a]) or _matches_alone(
                    target, values[:, b]
                )
                relation = Formula(search.plan.names[keys[i]], expression)
                if not is_trivial and keys[i] in search.free and search.offer(relation):
                    break


def _candidates(
    values: Array, i: int, target: Cells, symbol: str, ordered: bool
) -> list[tuple[int, int]]:
    """Pairs of columns whose product (or quotient, ...) is the target in all probed rows."""
    others = [k for k in range(values.shape[1]) if k != i]
    known = ~np.isnan(values).any(axis=1)
    rows = np.flatnonzero(known)
    if len(rows) < MIN_ROWS or not _is_fine(target):
        return []
    rows = rows[np.linspace(0, len(rows) - 1, N_PROBES).astype(int)]
    pairs = np.array(list((permutations if ordered else combinations)(others, 2)))
    if not len(pairs):
        return []
    left, right = values[rows][:, pairs[:, 0]], values[rows][:, pairs[:, 1]]
    with np.errstate(all="ignore"):
        function = {"*": np.multiply, "/": np.divide, "+": np.add, "-": np.subtract}[symbol]
        results = function(left, right)
    results[~np.isfinite(results)] = np.nan
    matches = target.unit.equal(target.x[rows][:, None], results).all(axis=0)
    return [(int(a), int(b)) for a, b in pairs[matches]]


def _is_fine(cells: Cells) -> bool:
    """Whether the steps of a column are so fine that rounding explains nothing."""
    if cells.unit.decimals is None:
        return True
    return bool(np.nanstd(cells.x) >= 20 * 10.0**-cells.unit.decimals)


def _matches_alone(target: Cells, x: Array) -> bool:
    differs = ~target.unit.equal(target.x, x) & ~np.isnan(x) & ~target.missing
    return bool(differs.sum() < MIN_SURPRISES)


def find_rates(search: Any) -> None:
    """Columns that are a round multiple of another one, to their last decimal: taxes, discounts."""
    keys = [k for k in search.keys(("number",), taken=True) if _is_fine(search.cells[k])]
    keys = keys[:MAX_FACTORS]
    for key in keys:
        t = search.cells[key]
        if key not in search.free or t.unit.decimals is None:
            continue
        for source in keys:
            x = search.cells[source]
            # Of two columns, the one of fewer steps is rounded.
            if source == key or (x.n_values, -source) < (t.n_values, -key):
                continue
            rate = _rate(t, x)
            name = quoted(search.plan.variable(source))
            if rate and search.offer(Formula(search.plan.names[key], f"{rate} * {name}")):
                break


def _rate(t: Cells, x: Cells) -> str | None:
    """The roundest factor from `x` to `t` that rounding allows in all rows."""
    is_known = ~t.missing & ~x.missing & (x.x != 0)
    if is_known.sum() < MIN_ROWS:
        return None
    slack = 0.500001 * 10.0 ** -(t.unit.decimals or 0)  # ties go either way
    for rows in (slice(0, 50), slice(None)):
        numbers, sources = t.x[rows][is_known[rows]], x.x[rows][is_known[rows]]
        widths = slack / np.abs(sources)
        low, high = np.max(numbers / sources - widths), np.min(numbers / sources + widths)
        if not low <= high or low * high <= 0:
            return None
    for digits in range(1, 5):
        rate = f"{(low + high) / 2:.{digits}g}"
        if low <= float(rate) <= high:
            return rate
    return None


def find_remainders(search: Any) -> None:
    """Integers that are quotients or remainders of others by a round number."""
    whole = [k for k in search.keys(("number",)) if search.cells[k].unit.decimals == 0]
    for key in whole:
        t = search.cells[key]
        if key not in search.free or not t.varies:
            continue
        sources = [k for k in whole if search.cells[k].n_values > max(t.n_values, 10)]
        for source in sources:
            expression = _quotient(t, search.cells[source], quoted(search.plan.variable(source)))
            if expression and search.offer(Formula(search.plan.names[key], expression)):
                break


def _quotient(t: Cells, x: Cells, name: str) -> str | None:
    known = ~t.missing & ~x.missing
    if known.sum() < MIN_ROWS:
        return None
    results, numbers = t.x[known], x.x[known]
    reach = numbers.max() - numbers.min()
    for divisor in DIVISORS:
        if divisor > reach:
            break
        for symbol, function in (("//", np.floor_divide), ("%", np.mod)):
            if np.array_equal(function(numbers[:50], divisor), results[:50]) and np.array_equal(
                function(numbers, divisor), results
            ):
                return f"{name} {symbol} {divisor}"
    return None


def find_inequalities(search: Any) -> None:
    """Pairs of columns of like ranges, one nowhere below the other, and that not by chance."""
    pairs: list[tuple[int, int]] = []
    for kinds in (("number",), ("date",), ("lapse",)):
        keys = [k for k in search.keys(kinds, taken=True) if search.cells[k].n_values > 3]
        pairs += [p for p in permutations(keys, 2) if _is_ordered(search, *p)]
    implied = {
        (a, c) for a, b in pairs for b_, c in pairs if b == b_ and (a, c) in pairs and a != c
    }
    for low, high in pairs:
        both_ways = (high, low) in pairs
        if high in search.free and (low, high) not in implied and not both_ways:
            search.offer(Inequality(search.plan.names[low], search.plan.names[high]), shared=True)
    search.close_inequalities()


def _is_ordered(search: Any, low: int, high: int) -> bool:
    a, b = search.cells[low], search.cells[high]
    x, y = a.unit.to_values(a.x), b.unit.to_values(b.x)
    if (y[:100] < x[:100]).any() or (y < x).any():
        return False
    differences = y - x
    known = ~np.isnan(differences)
    if not known.any() or share_above(x[known], y[known]) < MIN_SHARE_ABOVE:
        return False
    # Where the lower one is below all of the higher ones, there is nothing to see.
    differences = differences[known & (x > y[known].min())]
    if len(differences) < MIN_ROWS or np.count_nonzero(differences > 0) < MIN_SURPRISES:
        return False
    decimals = [u.decimals for u in (a.unit, b.unit)]
    step = 0.0
    if not any(d is None for d in decimals):
        digits = max(d for d in decimals if d is not None)
        whole = np.rint(differences * 10.0**digits).astype(np.int64)
        step = float(np.gcd.reduce(whole)) / 10.0**digits
    if not ends_at_zero(differences, step):
        return False
    # Where amounts are of many sizes, so are differences, and small ones crowd near zero without
    # a rule. Ratios do not, unless the two are often equal.
    lowest = np.nanmin(x)
    if a.unit.kind != "number" or lowest <= 0 or np.count_nonzero(differences == 0) >= MIN_NEAR:
        return True
    return ends_at_zero(np.log(y / x)[known & (x > y[known].min())], 0.0)
