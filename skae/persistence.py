"""Save a fitted estimator in one file, and load it without running code from the file."""

import os
import platform
from contextlib import contextmanager
from importlib.metadata import version

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skae._engine._runtime import (
    borrowed_global_generator,
    initial_settings,
    resolve_device,
    resolve_precision,
    warn_if_bfloat16_unsupported,
)
from skae._sklearn import callbacks_of, validate_params
from skae._storage._documents import DocumentDecoder, DocumentEncoder, read_pairs
from skae._storage._estimator_kinds import (
    ATTRIBUTES,
    KINDS,
    network_of_user,
)
from skae._storage._estimator_layouts import check_fitted, fitted_attributes
from skae._storage._files import NO_CHECKSUM, read_file, replace_file, sealed, unsealed
from skae._storage._trial import try_out
from skae._version import __version__
from skae.estimators._denoising import DenoisingAutoencoder
from skae.estimators._generator import VAEGenerator
from skae.estimators._outlier import AutoencoderOutlierDetector
from skae.estimators._transformer import AutoencoderTransformer
from skae.exceptions import ModelFileError, warn_user

# Format of each estimator's files, where it is not the first one.
FORMATS = {
    "AutoencoderOutlierDetector": 3,
    "AutoencoderTransformer": 3,
    "DenoisingAutoencoder": 3,
    "VAEGenerator": 3,
}
# The oldest format that is read: results of earlier ones had another meaning.
READABLE = {"AutoencoderOutlierDetector": 2, "DenoisingAutoencoder": 2}
OF_GENERATORS = {"private_values": False, "categorical_features": "from_dtype"}
# Parameters that a later format has, and what estimators of earlier ones were fitted with.
ADDED = {
    ("AutoencoderOutlierDetector", 2): {"categorical_features": "from_dtype"},
    ("AutoencoderTransformer", 1): {"whiten": False, "categorical_features": "from_dtype"},
    ("AutoencoderTransformer", 2): {"categorical_features": "from_dtype"},
    ("DenoisingAutoencoder", 2): {
        "min_value": -np.inf,
        "max_value": np.inf,
        "categorical_features": "from_dtype",
    },
    ("VAEGenerator", 1): {"relations": None, **OF_GENERATORS},
    ("VAEGenerator", 2): OF_GENERATORS,
}
LIBRARIES = ("numpy", "pandas", "safetensors", "scikit-learn", "skorch", "torch")
ESTIMATORS = {
    cls.__name__: cls
    for cls in (
        AutoencoderOutlierDetector,
        AutoencoderTransformer,
        DenoisingAutoencoder,
        VAEGenerator,
    )
}
KEYS = {"format", "sha256", "estimator", "parameters", "fitted", "versions"}


def save(estimator, path):
    """Write a fitted estimator to one file.

    The file is in the safetensors format: weights and fitted arrays, and a JSON document
    with the parameters, a format number, a checksum and the versions of the libraries. The
    loaded estimator continues exactly as `estimator` would, in ``partial_fit`` too. Only
    callbacks are left out, with a warning, and entries of ``net_.history`` that are neither
    numbers nor text. The file is complete before it replaces an existing one.

    It holds statistics of the training rows: means, scales, extremes and covariances of
    columns; for ``VAEGenerator`` the sorted distinct values of each column (of at most 100 000
    rows, sampled), the combinations of values that its relations are of, and with `refine` the
    values of each column again, sorted within leaves of trees of at least 10 rows. That of a
    detector holds up to 2048 training rows, scaled, with which others are compared, and the losses
    and weights of up to 10 000.

    Parameters
    ----------
    estimator : AutoencoderTransformer, DenoisingAutoencoder, VAEGenerator or \
AutoencoderOutlierDetector
        Fitted.
    path : str or os.PathLike
        The file, which is replaced if it exists; links are followed. Temporary files that killed
        processes left beside it are removed when they are a day old.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is of another class, subclasses included, or holds a value that cannot be
        saved, such as a level that is not a text, number or date, or attributes that do not fit
        each other.
    ValueError
        If a parameter was set to an invalid value after `fit`.
    OSError
        If the file cannot be written, is read-only, or is a folder, pipe, socket or device; what
        exists is unchanged.

    See Also
    --------
    load : Load the file.

    Examples
    --------
    >>> import os, tempfile
    >>> import skae
    >>> from sklearn.datasets import load_iris
    >>> X, _ = load_iris(return_X_y=True)
    >>> model = skae.AutoencoderTransformer(2, max_epochs=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.skae")
    ...     skae.save(model, path)
    ...     same = skae.load(path)
    >>> bool((same.transform(X) == model.transform(X)).all())
    True
    """
    replace_file(path, sealed(*_document_and_arrays(estimator)))


def _document_and_arrays(estimator):
    name = type(estimator).__name__
    if ESTIMATORS.get(name) is not type(estimator):
        raise TypeError(
            f"estimator={estimator!r} must be one of {sorted(ESTIMATORS)} itself; for "
            "others, subclasses and pipelines among them, use skops or joblib."
        )
    check_is_fitted(estimator)
    if estimator.callbacks:
        warn_user(
            f"callbacks={estimator.callbacks!r} are code, which is not saved: the loaded "
            "estimator will have callbacks=None.",
        )
    if callbacks_of(estimator):
        warn_user(
            f"The callbacks {callbacks_of(estimator)!r} are code, which is not saved: give the "
            "loaded estimator its own by set_callbacks.",
        )
    validate_params(estimator)
    parameters = estimator.get_params(deep=False) | {"callbacks": None}
    fitted = fitted_attributes(estimator)
    try:
        check_fitted(estimator)
    except ValueError as error:
        raise TypeError(f"{name} cannot be saved: {error}.") from error
    encoder = DocumentEncoder(KINDS)
    document = {
        "format": FORMATS.get(name, 1),
        "sha256": NO_CHECKSUM,
        "estimator": name,
        "parameters": [[k, encoder.write(v, k)] for k, v in parameters.items()],
        "fitted": [[k, encoder.write(v, k)] for k, v in ATTRIBUTES.to_file(fitted).items()],
        "versions": {"skae": __version__, "python": platform.python_version()}
        | {library: version(library) for library in LIBRARIES},
    }
    if "calls" in encoder.notes and network_of_user(estimator) is None:
        raise ValueError(
            f"network={estimator.network!r} is not what the estimator was fitted with; set it "
            "back, or fit again."
        )
    return document, encoder.arrays


def load(path, *, registry=None, device="auto"):
    """Read an estimator that :func:`save` wrote.

    No code in the file is run: it holds JSON and arrays, and a file with a value of an
    unknown kind is refused, and so is one whose values do not fit each other. So files from
    untrusted sources are safe to load, though such a model may give wrong results on purpose.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    registry : dict, default=None
        Your own networks (objects with a method ``build``) and noise functions by the
        names of their classes and functions, for estimators that were fitted with them.
    device : str, default="auto"
        The parameter `device` of the loaded estimator. ``"auto"`` uses a GPU if there is one.

    Returns
    -------
    estimator : object
        The fitted estimator.

    Raises
    ------
    ModelFileError
        If the file is damaged, truncated, of a newer format, or holds anything
        unexpected, which is named: a missing attribute, an array of another shape or type, a
        value that is not finite. It is also a ``ValueError``.
    TypeError
        If `registry` is not a dict, or holds a class instead of an object.
    LookupError
        If a network or function is not in `registry`, or does not fit the file.
    OSError
        If the file cannot be read, or is a folder, pipe, socket or device.

    See Also
    --------
    save : Save an estimator, with an example.

    Examples
    --------
    With a custom network:

    >>> import os, tempfile
    >>> import skae
    >>> from sklearn.datasets import load_iris
    >>> from torch import nn
    >>> class Shallow:
    ...     def build(self, n_features, n_components):
    ...         return nn.Linear(n_features, n_components), nn.Linear(n_components, n_features)
    >>> X, _ = load_iris(return_X_y=True)
    >>> model = skae.AutoencoderTransformer(2, network=Shallow(), max_epochs=2).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.skae")
    ...     skae.save(model, path)
    ...     same = skae.load(path, registry={"Shallow": Shallow()})
    >>> same.transform(X).shape
    (150, 2)
    """
    registry = {} if registry is None else registry
    if not isinstance(registry, dict):
        raise TypeError(f"registry={registry!r} must be a dict of objects by their names.")
    for name, value in registry.items():
        if isinstance(value, type):
            raise TypeError(f"registry: {name!r} is a class; it must be an object, {name}(...).")
    resolved_device = resolve_device(device)
    content = read_file(path)
    with _errors_of_file(path):
        document, arrays = unsealed(content)
        return _restored(document, arrays, len(content), registry, device, resolved_device)


@contextmanager
def _errors_of_file(path):
    """Errors in the block become those that `load` documents, with the file's name."""
    try:
        # Custom networks draw their first weights.
        with initial_settings(), borrowed_global_generator(0):
            yield
    except (MemoryError, Warning):
        raise
    except Exception as error:
        message = f"{os.fspath(path)} cannot be loaded: {str(error).rstrip('.')}."
        if type(error) is LookupError:  # raised where the registry lacks something
            raise LookupError(message) from error
        raise ModelFileError(message) from error


def _restored(document, arrays, n_bytes, registry, device, resolved_device):
    """The estimator in a file of `n_bytes`."""
    if set(document) != KEYS:
        raise ModelFileError(f"its document has the keys {sorted(document)}")
    name = document["estimator"]
    if document["format"] < READABLE.get(name, 1):
        raise ModelFileError(
            f"it has format {document['format']} of {name}, whose parameters and results had "
            "another meaning; fit the estimator again"
        )
    cls = ESTIMATORS.get(name)
    if cls is None:
        raise ModelFileError(f"it holds the unknown estimator {document['estimator']!r:.60}")
    decoder = DocumentDecoder(KINDS, arrays, n_bytes, registry=registry, device=resolved_device)
    added = ADDED.get((name, document["format"]), {})
    parameters = read_pairs(decoder, document["parameters"]) | added
    if set(parameters) != set(cls._get_param_names()):
        raise ModelFileError(f"it has the parameters {sorted(parameters)}")
    estimator = cls(**parameters | {"device": device})
    validate_params(estimator)
    decoder.notes["network"] = network_of_user(estimator)
    warn_if_bfloat16_unsupported(estimator.precision, resolved_device)
    decoder.notes["precision"] = resolve_precision(estimator.precision, resolved_device)
    fitted = ATTRIBUTES.from_file(read_pairs(decoder, document["fitted"]))
    if decoder.arrays:
        raise ModelFileError(f"it holds unused arrays: {sorted(decoder.arrays)[:3]}")
    for parameter, value in added.items():
        fitted["_network_fingerprint"].setdefault(parameter, repr(value))
    vars(estimator).update(fitted)
    if fitted_attributes(estimator).keys() != fitted.keys():
        raise ModelFileError(f"it has fitted attributes that are none: {sorted(fitted)}")
    check_fitted(estimator)
    try_out(estimator)
    return estimator
