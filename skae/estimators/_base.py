"""What all estimators share: input validation, fit, and the verbs on latents."""

from copy import copy
from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from skae._data._arrays import as_precise_as, empty, namespace, output_dtype, write_pieces
from skae._data._fitted_arrays import note_kind_of_rows
from skae._data._open import opened, parts_of_stream
from skae._data._scaling import LARGEST_READ, LARGEST_TRAINED, check_magnitudes
from skae._data._survey import in_memory_if_small
from skae._data._validation import (
    as_numpy_table,
    check_input,
    drop_zero_weight_rows,
    to_compute_array,
)
from skae._engine._batches import SourceRows
from skae._engine._progress import show_progress
from skae._engine._row_errors import row_errors
from skae._engine._runtime import resolve_device, resolve_precision, warn_if_bfloat16_unsupported
from skae._engine._tasks import given_to_fit
from skae._fit._guard import rollback_on_error
from skae._fit._plan import (
    check_same_network,
    may_change,
    n_rows_held_out,
    net_settings,
    network_fingerprint,
)
from skae._fit._run import fit, fit_pass, warn_if_interrupted
from skae._onnx_hooks import OptionalMethod
from skae._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
    fit_context,
    preceded_by,
)
from skae._storage._states import PlainStateMixin
from skae._version import PAGE_OF_CLASS
from skae.estimators._checks import check_numbers, check_values, compare_with_scaling
from skae.estimators._public import PublicMethodsMixin
from skae.networks._layers import ACTIVATIONS


class BaseAutoencoder(PublicMethodsMixin, PlainStateMixin, CallbackSupportMixin, BaseEstimator):
    """Shared machinery; each estimator brings its own ``__init__`` and public verbs.

    Estimators implement three methods, which ``_fit`` and ``_partial_fit`` call:

    - ``_make_plan(X, sample_weight, rng)`` learns the scaling, the linear start and the
      number of latents from training rows, and returns the ``Plan`` of the rest;
    - ``_plan(build, ...)`` is the plan around a function that builds the net, or returns
      a fitted one that training resumes with;
    - ``_finish(outcome, X, sample_weight)`` keeps what the fit left behind.

    The detector trains on the trimmed subset of its rows, by plans of another kind: it has a
    ``_fit`` and a ``_partial_fit`` of its own.

    Flags about missing cells
    -------------------------
    _accepts_missing
        NaN may come in, and stands for a missing cell (not so where another marker does).
    _may_miss_cells
        Cells may be missing, whatever marks them where they come in.
    _learns_to_fill
        Denoiser: cells were missing or taken away in training, so the network fills them.
    _reads_mask
        Denoiser: the encoder reads, behind the filled row, which of its cells are missing.
    _only_fills
        Denoiser: noise is missing cells and nothing else; observed cells are right.
    """

    _accepts_missing = False
    _largest_read = LARGEST_READ  # of scaled values, after the fit
    _keeps_tensors = True  # or they are taken to NumPy, and results back
    _latent_unit = 1.0  # of the latents that the network gives out

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            StrOptions({"auto"}),
        ],
        "hidden_layer_sizes": [
            Interval(Integral, 1, None, closed="left"),
            "array-like",
            StrOptions({"auto"}),
        ],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "network": [HasMethods(["build"]), None],
        "init": [StrOptions({"pca", "random"})],
        "alpha": may_change(Interval(Real, 0, None, closed="left"), StrOptions({"auto"})),
        "learning_rate": may_change(
            Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})
        ),
        "batch_size": may_change(Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})),
        "max_epochs": may_change(Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})),
        "early_stopping": may_change("boolean"),
        "validation_fraction": may_change(Interval(Real, 0, 1, closed="neither")),
        "n_iter_no_change": may_change(Interval(Integral, 1, None, closed="left"), None),
        "warm_start": may_change("boolean"),
        "device": may_change(str),
        "precision": [StrOptions({"float32", "bfloat16"})],
        "callbacks": may_change(list, None),
        "random_state": may_change("random_state"),
        "verbose": may_change("verbose"),
    }

    # Fitting.

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Learn the network from X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows; memory maps, CSR matrices and tables on disk (``skae.io.open_table``)
            are read batch by batch.
        y : array-like of shape (n_samples,), default=None
            Ignored, but for ``VAEGenerator(conditional=True)``: its class or number.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in scaling, training and validation. Only ratios
            count; a row of weight zero has no influence at all.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or a parameter is not what it must be.
        DivergenceError
            If the training loss diverges; the estimator stays as it was.
        """
        given = given_to_fit(X, y, sample_weight=sample_weight)
        return self._fit_guarded(X, y, sample_weight, given)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Train one epoch on X, going on from where the network is.

        The first call fixes the scaling and the starting weights from its rows, so it
        should be a representative sample: a warning, at most one, tells of later rows that are
        far from these. There is no validation and no schedule: the
        learning rate is constant, a third of `learning_rate`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to train on; at least two in the first call. Also a table on disk, or a stream
            of Arrow's record batches.
        y : array-like of shape (n_samples,), default=None
            Ignored, but for ``VAEGenerator(conditional=True)``: its class or number.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; only ratios within one call count.

        Returns
        -------
        self : object
            The estimator, trained further.
        """
        given = given_to_fit(X, y, sample_weight=sample_weight)
        return self._partial_fit_guarded(X, y, sample_weight, given)

    def _fit_guarded(self, X, y_or_clean, sample_weight, given):
        """Fit, or leave everything as it was; `y_or_clean` are targets, or clean rows.

        `given` is what callbacks are told that the fit was called with.
        """
        with rollback_on_error(self, given):
            X = in_memory_if_small(opened(X))
            note_kind_of_rows(self, X)
            reset = not self._resumes
            rows = self._check_training_rows(X, y_or_clean, sample_weight, reset=reset)
            self._fit(*rows)
            compare_with_scaling(self, rows[0], is_new=reset)
        return self

    def _partial_fit_guarded(self, X, y_or_clean, sample_weight, given):
        first = not hasattr(self, "net_")
        with rollback_on_error(self, given):
            for part in parts_of_stream(X, y_or_clean, sample_weight):
                note_kind_of_rows(self, part)
                seen = 0 if first else getattr(self, "n_samples_seen_", 0)  # files may lack it
                rows = self._check_training_rows(part, y_or_clean, sample_weight, reset=first)
                self._partial_fit(*rows, first=first)
                compare_with_scaling(self, rows[0], is_new=first)
                self.n_samples_seen_ += seen
                first = False
        return self

    @property
    def _resumes(self):
        """Whether ``fit`` resumes the training of the fitted network."""
        return self.warm_start and hasattr(self, "net_")

    def _check_training_rows(self, X, y_or_clean, sample_weight, *, reset):
        """Validated rows, with their targets or clean versions if they have some, and weights."""
        X = as_numpy_table(self._check_rows(X, reset=reset), sample_weight)
        return drop_zero_weight_rows(X, sample_weight, min_rows=2 if reset else 1)

    def _fit(self, X, sample_weight):
        rng = check_random_state(self.random_state)
        if self._resumes:
            settings = net_settings(self, self._auto, self.n_features_in_, X.shape[0])
            plan = self._resume_plan(X, sample_weight, settings)
        else:
            n_rows_held_out(self, X.shape[0])  # raises before anything is learned
            plan = self._make_plan(X, sample_weight, rng)
        self._finish(fit(plan, X, sample_weight, rng), X, sample_weight)

    def _partial_fit(self, X, sample_weight, *, first):
        rng = check_random_state(self.random_state)
        make_plan = partial(self._make_plan, rng=rng) if first else self._resume_plan
        plan = make_plan(X, sample_weight)
        self._finish(fit_pass(plan, X, sample_weight), X, sample_weight)

    def _resume_plan(self, X, sample_weight, settings=None):
        """The plan to train a copy of the fitted net further, with other settings if given."""
        check_same_network(self, self._network_fingerprint)
        net = self.net_.copy()
        if settings is not None:
            net.set_params(**settings)
            net.module_.set_basis(None)  # learned anew
        self._check_range(X)
        return self._plan(lambda rotation: net, net.max_epochs, net.device, resumes=True)

    def _check_range(self, X):
        """Raise if X cannot be learned from."""
        check_values(self, X, LARGEST_TRAINED, are_learned=True)

    def _begin(self, net, feed):
        """Set the net, and what it was fed: callbacks may ask for them while it is trained."""
        self.net_ = net

    def _finish(self, outcome, X, sample_weight):
        """Keep what a fit left behind; estimators add what follows training."""
        warn_if_interrupted(outcome.net)
        self._begin(outcome.net, outcome.feed)  # folds were trained without the estimator
        self.n_samples_seen_ = X.shape[0]
        self.n_iter_ = outcome.n_iter
        self.best_epoch_ = outcome.best_epoch
        self.loss_curve_ = outcome.loss_curve
        self.validation_loss_curve_ = outcome.validation_loss_curve
        self._network_fingerprint = network_fingerprint(self)

    def _attributes_after(self, outcome, X, sample_weight):
        """Attributes of this estimator as if a fit had come to this; itself, it goes on."""
        return self._attributes_of_copy(lambda model: model._finish(outcome, X, sample_weight))

    def _attributes_of_copy(self, finish):
        model = copy(self)
        with show_progress(type(self).__name__, 0):
            finish(model)
        return vars(model)

    # Verbs.

    def encode(self, X):
        """Map rows to latents.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_latents)
            Latents: `n_components_`, or as many from each member of an ensemble, side by
            side.
        """
        check_is_fitted(self)
        X, to_input_type = self._validate_input(X)
        return to_input_type(self._encode(X))

    def decode(self, Z):
        """Map latents to rows.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_latents)
            Latents, as many as ``encode`` gives.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows, in the units of the training data.

        Raises
        ------
        ValueError
            If Z has another number of columns.
        """
        check_is_fitted(self)
        Z, to_input_type = to_compute_array(Z, self._keeps_tensors, name="Z")
        floats = {"dtype": [np.float64, np.float32], "marker": None}
        Z = check_input(check_array, Z, input_name="Z", accept_sparse=False, **floats)
        if Z.shape[1] != self.net_.n_latents:
            raise ValueError(
                f"Z has {Z.shape[1]} columns, but {type(self).__name__} was fitted with "
                f"{self.net_.n_latents} latents."
            )
        check_magnitudes(Z, None, reach=LARGEST_READ * self._latent_unit, name="Z")
        return self._wrap_output(self._decode(Z), to_input_type)

    def reconstruct(self, X):
        """Encode rows and decode them again.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features)
            Reconstructions, in the units of X.
        """
        check_is_fitted(self)
        rows, to_input_type = self._validate_input(X)
        return self._wrap_output(self._reconstruct(rows), to_input_type, like=X)

    def reconstruction_error(self, X):
        """Mean squared error of each row's reconstruction.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        errors : ndarray of shape (n_samples,)
            Mean over the observed columns of the squared difference, in squared
            units of X.
        """
        check_is_fitted(self)
        X, to_input_type = self._validate_input(X)
        # Of float32 rows, squares may be larger than float32 holds.
        errors = self._row_errors(X).clip(max=namespace(X).finfo(output_dtype(X)).max)
        return to_input_type(as_precise_as(X, errors))

    # What computes; tensors that come in stay where they are, and go out beside them.

    def _encode(self, X):
        latents = self.net_.encode_rows(self._rows(X))
        Z = write_pieces(empty((X.shape[0], self.net_.n_latents), X), latents)
        if self._latent_unit != 1:
            Z *= self._latent_unit
        return Z

    def _decode(self, Z):
        scaled = Z if self._latent_unit == 1 else Z / self._latent_unit
        return self._unscaled(self.net_.decode_rows(scaled), Z)

    def _reconstruct(self, X):
        return self._unscaled(self.net_.reconstruct_rows(self._rows(X)), X)

    def _unscaled(self, pieces, X):
        """Scaled rows in the units of the data, of the kind and the output dtype of X."""
        out, scaler = empty((X.shape[0], self.n_features_in_), X), self._scaler.on_device_of(X)
        for rows, scaled in pieces:
            scaler.inverse_transform(scaled, out.dtype, out[rows])
        return out

    def _row_errors(self, X):
        rows, may_miss, unit = self._rows(X), self._may_miss_cells, self._scaler.unit
        return row_errors(self.net_, rows, self._scaler, X, may_miss=may_miss) * unit * unit

    @property
    def _n_features_out(self):
        """Columns of what ``transform`` gives."""
        return self.n_components_

    @property
    def _may_miss_cells(self):
        return self._accepts_missing

    # Input validation.

    @property
    def _names_read(self):
        """Names of the columns of rows that are learned; None means their numbers."""
        return getattr(self, "feature_names_in_", None)

    def _show_number(self, j, number):
        """A number of the `j`-th column that is learned, as text."""
        return f"{number:.3g}"

    def _check_rows(self, X, *, reset):
        """Validate X against what was seen, or note what is seen now."""
        return check_numbers(self, X, reset=reset)

    @property
    def _marker(self):
        """What stands for a missing cell; None where no cell may be missing."""
        return np.nan if self._accepts_missing else None

    def _validate_input(self, X):
        """Validate X for inference; also return how to hand arrays back."""
        X, to_input_type = to_compute_array(X, self._keeps_tensors)
        return self._check_rows(X, reset=False), to_input_type

    def _wrap_output(self, rows, to_input_type, like=None):
        """Rows as the user gets them, beside the rows `like` that they were made of."""
        return to_input_type(rows)

    def _rows(self, X, indices=None):
        """Rows of X as the encoder reads them."""
        return SourceRows(X, self._input_transform(), indices, device=self.net_.device)

    def _input_transform(self):
        """What turns rows into what the encoder reads."""
        return self._scaler

    def set_params(self, **params):
        """Set parameters; a fitted network moves to another `device` at once.

        Parameters
        ----------
        **params : dict
            Parameters of the estimator.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter is unknown, or no such device can be used.
        """
        if "device" not in params or not hasattr(self, "net_"):
            return super().set_params(**params)
        device, before = resolve_device(params["device"]), self.device
        try:
            super().set_params(**params)
        except ValueError:
            self.device = before
            raise
        warn_if_bfloat16_unsupported(self.precision, device)
        self.net_.move_to(device, resolve_precision(self.precision, device))
        return self

    # In pipelines that skl2onnx converts.

    onnx_converter = OptionalMethod("skl2onnx")
    onnx_parser = OptionalMethod("skl2onnx")
    onnx_shape_calculator = OptionalMethod("skl2onnx")

    # In notebooks: scikit-learn's diagram leads to our manual and shows the network, too.

    _doc_link_module = "skae"
    _doc_link_template = PAGE_OF_CLASS

    def _get_params_html(self, *args, **kwargs):
        shown = super()._get_params_html(*args, **kwargs)
        if not hasattr(self, "net_"):
            return shown
        # Imported here to keep `import skae` fast.
        from skae._display._html import LossFacts, fitted_html
        from skae._display._network_facts import describe

        try:
            losses = LossFacts(self.loss_curve_, self.validation_loss_curve_, self.best_epoch_)
            html = fitted_html(describe(self.net_, self.n_features_in_), losses)
        except Exception:  # attributes may be anything; a diagram is shown all the same
            return shown
        return preceded_by(html, shown)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self._accepts_missing
        reads_levels = getattr(self, "categorical_features", None) is not None
        tags.input_tags.categorical = tags.input_tags.string = reads_levels
        return tags
