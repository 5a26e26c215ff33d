"""Plans of fits: how a net is built, what it is fed, what is measured, when training stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import gen_batches

from skae._data._shards import is_sharded
from skae._data._sources import AllBut, is_on_disk
from skae._data._survey import numbers_to_hold_out
from skae._engine._batches import Rows, SourceRows
from skae._engine._build import is_builtin_network, mlp
from skae._engine._net import AutoencoderNet
from skae._engine._noise import Corruption
from skae._engine._rotation import COORDINATES_PER_LATENT, Rotation
from skae._engine._runtime import (
    generator,
    resolve_device,
    resolve_precision,
    warn_if_bfloat16_unsupported,
)
from skae._engine._sharded_rows import ShardedRows
from skae._fit._defaults import MANY_ROWS, MIN_ROWS_FOR_SPLIT, MIN_WIDE_COLUMNS

# Latents trained at most where their number is to be found.
MAX_LATENTS = 256
# Share of the variance that n_components="auto" keeps.
AUTO_SHARE = 0.95
MAX_FOLDS = 5
# Cells of a table on disk that are held out at most, where these are enough rows.
CELLS_HELD_OUT, MIN_ROWS_HELD_OUT = 2**21, 10_000
# Shares of the schedule that training is tried for: what is poor has to show soon that it is not.
POOR_TRIAL, OPEN_TRIAL = 0.1, 0.25
# partial_fit has no schedule to anneal, so its rate is constant and lower.
PARTIAL_FIT_RATE = 1 / 3


# Numbers of rows, or None for all; a weight for each row, or None for one.
Indices = NDArray[np.intp] | None
Weights = NDArray[np.float64] | None
# Builds a net of the coordinates to train in, or of columns.
Build = Callable[[Rotation | None], AutoencoderNet]


class Seeds(NamedTuple):
    """Seeds of all that a fit draws, but for its split or folds."""

    start: int
    weights: int
    noise: int
    batches: int

    @classmethod
    def draw(cls, rng: np.random.RandomState) -> Seeds:
        """Four numbers from a RandomState."""
        return cls(*(int(seed) for seed in rng.randint(np.iinfo(np.int32).max, size=4)))


class Feed:
    """What training reads of the rows of a table.

    Parameters
    ----------
    transform : object with ``transform``
        From rows to what a batch holds: a scaler, or more.
    device : torch.device
        Where batches are read to.
    """

    def __init__(self, transform: Any, device: Any):
        self.transform = transform
        self.device = device

    def fitted(self, X: Any, indices: Indices, sample_weight: Weights) -> Feed:
        """The feed of a training on these rows, which may first learn from them alone."""
        return self

    def rows(
        self, X: Any, indices: Indices, sample_weight: Weights, rotation: Rotation | None = None
    ) -> SourceRows:
        """Rows of X by number (None: all), in the coordinates of a rotation if given."""
        transform = self.transform if rotation is None else rotation
        make = ShardedRows if is_sharded(X) else SourceRows
        return make(X, transform, indices, sample_weight, self.device)

    def training(self, net: AutoencoderNet, rows: SourceRows) -> Rows:
        """What a net trains on."""
        return rows.in_memory()

    def single_pass(self, net: AutoencoderNet, rows: SourceRows) -> Rows:
        """What a net trains on in one call of ``partial_fit``."""
        return self.training(net, rows)

    def validation(self, net: AutoencoderNet, rows: SourceRows) -> Rows:
        """What validation losses are taken from, the same in each epoch."""
        return rows.in_memory()


def measure_nothing(
    net: AutoencoderNet, feed: Feed, X: Any, held_out: Indices, sample_weight: Weights
) -> None:
    """The measure of estimators that need none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """How a fit goes, as far as parameters alone decide.

    Attributes
    ----------
    max_epochs : int
        Epochs that the learning rate's schedule is laid out for.
    early_stopping : bool
        Whether rows are held out to choose the epoch that is kept.
    validation_fraction : float
        Their share.
    is_watched : bool
        Whether callbacks watch the training. They see one training, so there are no folds.
    verbose : int
        Whether losses are shown, and so must be in the units of columns.
    resumes : bool
        Whether a fitted net is trained further: then there are no folds either, and one pass
        keeps the feed as it is.
    max_folds : int
        Folds are no more than these.
    keep_last : bool
        Whether the last epoch is kept instead of the best one.
    refits_output : bool
        Whether the decoder's last layer is refitted after training on a split.
    stacks_folds : bool
        Whether folds are known to train as one network, so that the progress bar can count.
    keeps_all_rows : bool
        Whether the kept network is trained on all rows even where one split of them is judged, as
        long as they are few enough for those held out to be missed.
    n_candidates : int
        Networks that each fold may train.
    may_try : bool
        Whether a part of the schedule may be tried on held-out rows before.
    """

    max_epochs: int
    early_stopping: bool
    validation_fraction: float
    is_watched: bool
    verbose: int
    resumes: bool = False
    max_folds: int = MAX_FOLDS
    keep_last: bool = False
    refits_output: bool = False
    stacks_folds: bool = False
    keeps_all_rows: bool = False
    n_candidates: int = 1
    may_try: bool = False

    @classmethod
    def of(cls, params: Any, **fields: Any) -> Self:
        """A schedule, or plan, that follows parameters in what all estimators share."""
        return cls(
            early_stopping=params.early_stopping,
            validation_fraction=params.validation_fraction,
            is_watched=bool(params.callbacks),
            verbose=int(params.verbose),
            **fields,
        )

    def takes_folds(self, n_rows: int) -> bool:
        """Whether held-out rows only choose the epoch, and all rows are then trained on."""
        is_small = n_rows < (MANY_ROWS if self.keeps_all_rows else MIN_ROWS_FOR_SPLIT)
        return self.early_stopping and is_small and not self.is_watched and not self.resumes

    def n_folds(self, n_rows: int) -> int:
        """Number of folds; of many rows, one part is enough."""
        if n_rows >= MIN_ROWS_FOR_SPLIT:
            return 1
        n_folds = round(1 / self.validation_fraction)
        return int(np.clip(n_folds, 2, min(self.max_folds, n_rows)))

    def batches(self, n_rows: int, n_features: int, n_parts: int) -> list[slice]:
        """Slices of the parts that are held out at once, as many at first as there are folds."""
        # Wide networks gain nothing from training at once, and take memory.
        if n_features >= MIN_WIDE_COLUMNS:
            return list(gen_batches(n_parts, 1))
        n_folds = self.n_folds(n_rows)
        further = [slice(n_folds, n_parts)] if n_parts > n_folds else []
        return [slice(0, n_folds), *further]

    def n_trainings(self, n_rows: int, n_features: int, n_parts: int) -> int:
        """Trainings that are shown for so many parts; those that go as one count once."""
        return len(self.batches(n_rows, n_features, n_parts)) if self.stacks_folds else n_parts

    def split(
        self, X: Any, sample_weight: Weights, rng: np.random.RandomState
    ) -> tuple[Any, Indices]:
        """Numbers of the rows to train on and of those held out; None, None for all and none.

        Of a table on disk few are held out, evenly spread over those of positive weight, and out
        of its sample if that has enough of them: they are in memory already.
        """
        if not self.early_stopping:
            return None, None
        n_rows = X.shape[0]
        if is_on_disk(X):
            n_counted = n_rows if sample_weight is None else int(np.count_nonzero(sample_weight))
            n_valid = min(n_rows_held_out(self, n_counted), n_most_held_out(X))
            held_out = numbers_to_hold_out(X, sample_weight, n_valid, rng.randint(2**31))
            return AllBut(n_rows, held_out), held_out
        n_valid = n_rows_held_out(self, n_rows)
        order = rng.permutation(n_rows)
        return np.sort(order[n_valid:]), np.sort(order[:n_valid])

    def epoch_to_keep(self, curve: list[float]) -> int:
        """The epoch that the mean losses of folds speak for."""
        if self.keeps_all_rows and curve[-1] < curve[0]:
            return len(curve) - 1  # losses at high rates say less than those after the fall
        return int(np.argmin(curve))

    def held_out_parts(self, n_rows: int, rng: np.random.RandomState) -> list[NDArray[np.intp]]:
        """Numbers of the rows of each fold; of many rows, those of ``split`` and further parts."""
        order = rng.permutation(n_rows)
        n_folds = self.n_folds(n_rows)
        if n_folds > 1:
            return np.array_split(order, n_folds)
        n_valid = n_rows_held_out(self, n_rows)
        n_parts = min(self.max_folds, n_rows // n_valid) if n_rows < MANY_ROWS else 1
        return [np.sort(order[i * n_valid : (i + 1) * n_valid]) for i in range(n_parts)]

    def n_epochs(self, n_rows: int, n_features: int) -> int:
        """Epochs that a fit shows at most; those of folds that train as one count once."""
        if not self.takes_folds(n_rows):
            return self.max_epochs
        n_folds = self.n_trainings(n_rows, n_features, self.n_folds(n_rows))
        n_epochs = self.max_epochs * (1 + n_folds * self.n_candidates)
        if self.may_try:
            n_parts = self.n_trainings(n_rows, n_features, self.max_folds)
            n_epochs += n_parts * self.n_trial_epochs(OPEN_TRIAL)
        return n_epochs

    def n_trial_epochs(self, share: float) -> int:
        """Epochs of a trial for a share of the schedule."""
        return max(1, int(share * self.max_epochs))


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan(Schedule):
    """All that a fit depends on besides its rows.

    Attributes
    ----------
    build : callable
        From a rotation, or None for plain columns, to the net that is to be trained. Each
        call makes a net with the same weights, those of the linear start.
    feed : Feed
        What the net reads.
    measure : callable
        What is wanted of a trained net on rows that it did not see: called with net, feed, X,
        the numbers of the rows held out (None if there are none) and the weights of all.
    begin : callable
        Called with net and feed before a training that callbacks may watch.
    attributes_after : callable
        Called with an outcome, X and the weights of its rows: attributes of the estimator, had
        the fit come to this.
    rotation : Rotation or None
        Coordinates to train in; a split is trained in them, folds only are by a `course`.
    link : OutputLink or None
        The link of the net in columns, once it has left the rotation.
    prospect : {"linear", "poor", "open", "nonlinear", "unknown"}
        What the rows promise before training: that nothing beats the start; that hardly anything
        will, so that a short trial may end the fit; that training will mostly beat it, so that
        trials have to show that it does not; that it is sure to; or nothing that could be told,
        so that held-out rows choose the epoch.
    course : callable or None
        Called with the plan, X, the weights of its rows and a RandomState: carries the plan out
        in a way of its own, unless nothing beats the start.
    """

    build: Build
    feed: Feed
    measure: Callable[..., Any] = measure_nothing
    begin: Callable[[AutoencoderNet, Feed], None]
    attributes_after: Callable[..., dict[str, Any]]
    rotation: Rotation | None = None
    link: Any = None
    prospect: str = "unknown"
    course: Callable[..., Any] | None = None


def n_rows_held_out(params: Any, n_rows: int) -> int:
    """Rows that `validation_fraction` holds out; raise if none would be left to train on."""
    n_valid = ceil(params.validation_fraction * n_rows)
    if params.early_stopping and n_valid >= n_rows:
        raise ValueError(
            f"validation_fraction={params.validation_fraction!r} leaves no rows to train on: "
            f"X has {n_rows} rows. Lower it, or set early_stopping=False."
        )
    return n_valid


def n_most_held_out(X: Any) -> int:
    """Rows of a table on disk that are held out at most: they are kept in memory."""
    return max(MIN_ROWS_HELD_OUT, CELLS_HELD_OUT // X.width)


# What parameters mean. `params` is anything that has them as attributes, an estimator say.


def net_settings(
    params: Any, auto: Any, n_features: int, n_rows: int, effort: int = 1
) -> dict[str, Any]:
    """How a net is trained on `n_rows` rows: the "auto" of these parameters is resolved here.

    Parameters
    ----------
    auto : class of skae._fit._defaults
        Rules of the estimator.
    effort : int, default=1
        Factor of the epochs that the rules ask for.
    """
    batch_size = none_if_auto(params.batch_size) or auto.batch_size(n_rows)
    max_epochs = none_if_auto(params.max_epochs) or effort * auto.max_epochs(n_rows, batch_size)
    rate = none_if_auto(params.learning_rate) or auto.learning_rate(n_features, n_rows)
    alpha = none_if_auto(params.alpha)
    if alpha is None:
        alpha = auto.alpha(n_features, max_epochs * -(-n_rows // batch_size))
    return {
        "learning_rate": rate,
        "partial_rate": PARTIAL_FIT_RATE * rate,
        "alpha": alpha,
        "batch_size": batch_size,
        "max_epochs": max_epochs,
        "patience": params.n_iter_no_change,
        "callbacks": params.callbacks,
        "verbose": int(params.verbose),
    }


def none_if_auto(parameter: Any) -> Any:
    """The parameter, or None where it is "auto"."""
    return None if isinstance(parameter, str) else parameter


def resolve_network(
    params: Any, auto: Any, n_features: int, dropout: float = 0.0, tied: bool = False
) -> Any:
    """The network of the parameters, or the multilayer perceptron that stands for None."""
    if params.network is None:
        sizes = _hidden_layer_sizes(params.hidden_layer_sizes, auto, n_features)
        return mlp(sizes, params.activation, dropout, tied)
    if isinstance(params.network, type):
        name = params.network.__name__
        raise ValueError(
            f"network={name} is a class; it must be an object with a method build, such as "
            f"{name}(...)."
        )
    return params.network


def _hidden_layer_sizes(sizes: Any, auto: Any, n_features: int) -> tuple[int, ...]:
    if isinstance(sizes, str):
        return auto.hidden_layer_sizes(n_features)
    widths = (sizes,) if isinstance(sizes, Integral) else tuple(sizes)
    if not all(isinstance(width, Integral) and int(width) >= 1 for width in widths):
        raise ValueError(f"hidden_layer_sizes={sizes!r} must hold positive integers only.")
    return tuple(int(width) for width in widths)


def n_directions(n_components: Any) -> int:
    """Principal directions that are looked for."""
    if isinstance(n_components, Integral):
        return max(MAX_LATENTS, COORDINATES_PER_LATENT * int(n_components))
    return MAX_LATENTS


def n_latents(n_components: Any, pca: Any) -> int:
    """An integer itself; for a share of the variance, as many latents as PCA needs."""
    if isinstance(n_components, Integral):
        return int(n_components)
    return min(pca.n_directions_for(wanted_share(n_components)), MAX_LATENTS)


def wanted_share(n_components: Any) -> float:
    """Share of the variance that `n_components` asks for where it is no integer."""
    return AUTO_SHARE if n_components == "auto" else n_components


class NetFactory:
    """Makes the nets of one fit: they share device, precision, settings and seeds.

    Parameters
    ----------
    params : object with the parameters of an estimator
    network : object with ``build``
        Where its layers draw from torch's global generator, that is seeded for them.
    seeds : Seeds
    settings : dict
        Of ``net_settings``.
    net_class : type, default=AutoencoderNet
    **more : dict
        What `net_class` takes besides.
    """

    def __init__(
        self,
        params: Any,
        network: Any,
        seeds: Seeds,
        settings: dict[str, Any],
        net_class: type[AutoencoderNet] = AutoencoderNet,
        **more: Any,
    ):
        self.device = resolve_device(params.device)
        self.precision = resolve_precision(params.precision, self.device)
        warn_if_bfloat16_unsupported(params.precision, self.device)
        self.global_seed = None if is_builtin_network(network) else seeds.weights
        self.seeds = seeds
        self.settings = settings
        self.net_class = net_class
        self.more = more

    def __call__(self, module: Any, objective: Any, **corruption: Any) -> Any:
        """A net around an initialised module; `corruption` is what ``Corruption`` takes."""
        return self.net_class(
            module.to(self.device),
            objective,
            corruption=Corruption(generator(self.seeds.noise, self.device), **corruption),
            batch_generator=generator(self.seeds.batches, self.device),
            precision=self.precision,
            device=self.device,
            global_seed=self.global_seed,
            **self.settings,
            **self.more,
        )


# Whether training can go on.


class MayChange(list[Any]):
    """Constraints of a parameter that training can go on with when it changes.

    A parameter without this mark shapes the network, or what it reads.
    """


def may_change(*constraints: Any) -> MayChange:
    """Mark the constraints of a parameter in `_parameter_constraints`."""
    return MayChange(constraints)


def _may_change(cls: type) -> set[str]:
    """Parameters with the mark; a subclass may constrain them otherwise, or add others."""
    tables = _constraints(cls)
    return {name for table in tables for name in table if isinstance(table[name], MayChange)}


def _constraints(cls: type) -> list[dict[str, Any]]:
    """The tables of constraints of a class and of those that it is derived from."""
    return [vars(base).get("_parameter_constraints", {}) for base in cls.__mro__]


def _parameter_names(estimator: Any) -> set[str]:
    """Names of all parameters, those too that a subclass sets and does not take itself."""
    inherited = {name for table in _constraints(type(estimator)) for name in table}
    return inherited | set(estimator.get_params(deep=False))


def network_fingerprint(estimator: Any) -> dict[str, str]:
    """All parameters that a fitted network cannot follow when they change, as texts."""
    fixed = sorted(_parameter_names(estimator) - _may_change(type(estimator)))
    params = {name: getattr(estimator, name) for name in fixed}
    if params["network"] is not None and not is_builtin_network(params["network"]):
        params["network"] = type(params["network"]).__qualname__
    # A copy of a function, in another process, say, is another object.
    functions = {k: v for k, v in params.items() if callable(v)}
    names = {k: getattr(v, "__qualname__", type(v).__qualname__) for k, v in functions.items()}
    return {name: names.get(name, repr(value)) for name, value in params.items()}


def check_same_network(estimator: Any, before: dict[str, str]) -> None:
    """Raise unless the parameters still fit the network with the fingerprint `before`."""
    now = network_fingerprint(estimator)
    for name, value in now.items():
        if value != before.get(name):
            raise ValueError(
                f"{name}={value} does not fit the network that training would go on with, "
                f"which was built with {name}={before.get(name)}. Set it back, or start afresh "
                "with fit and warm_start=False."
            )
