"""Save a fitted estimator in one file, and load it without running code from the file."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import uuid
from importlib.metadata import version

from sklearn.utils.validation import check_is_fitted

from skae._engine._runtime import (
    borrowed_global_generator,
    resolve_device,
    resolve_precision,
    warn_if_bfloat16_unsupported,
)
from skae._sklearn import validate_params
from skae._storage._documents import DocumentDecoder, DocumentEncoder, expect
from skae._storage._estimator_kinds import (
    ATTRIBUTES,
    ESTIMATORS,
    check_fitted,
    kinds,
    network_of_user,
)
from skae._version import __version__
from skae.exceptions import ModelFileError, warn_user

# To be raised when files of earlier versions can no longer be read as they are.
FORMAT = 2
# Format of each estimator's files, where it is not the first one.
FORMATS = {"AutoencoderOutlierDetector": 2}
# Key of the JSON document in the metadata of the safetensors file.
ENTRY = "skae"
LIBRARIES = ("numpy", "pandas", "safetensors", "scikit-learn", "skorch", "torch")
# In the header of the file, where quotes are escaped.
CHECKSUM = re.compile(rb'\\"sha256\\": \\"([0-9a-f]{64})\\"')
NO_CHECKSUM = "0" * 64
KEYS = {"format", "sha256", "estimator", "parameters", "fitted", "versions"}


def save(estimator, path):
    """Write a fitted estimator to one file.

    The file is in the safetensors format: weights and fitted arrays, and a JSON document
    with the parameters, a format number, a checksum and the versions of the libraries. The
    loaded estimator continues exactly as `estimator` would, in ``partial_fit`` too. Only
    `callbacks` are left out, with a warning, and entries of ``net_.history`` that are neither
    numbers nor text. The file is complete before it replaces an existing one.

    It holds statistics of the training rows: means, scales, extremes and covariances of
    columns; for ``VAEGenerator`` the sorted distinct values of each column (of at most 100 000
    rows, sampled), from which rows cannot be put together. That of a detector holds up to 2048
    training rows, scaled, with which others are compared, and the losses and weights of up to
    10 000.

    Parameters
    ----------
    estimator : AutoencoderTransformer, DenoisingAutoencoder, VAEGenerator or \
AutoencoderOutlierDetector
        Fitted.
    path : str or os.PathLike
        The file, which is replaced if it exists.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is of another class, subclasses included, or holds a value that cannot be
        saved, such as a level that is not a text, number or date.
    ValueError
        If a parameter was set to an invalid value after `fit`.
    OSError
        If the file cannot be written; an existing file is unchanged.

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
    name = type(estimator).__name__
    if ESTIMATORS.get(name) is not type(estimator):
        raise TypeError(
            f"estimator={estimator!r} must be one of {sorted(ESTIMATORS)}; for other objects, a "
            "Pipeline say, use skops or joblib."
        )
    check_is_fitted(estimator)
    if estimator.callbacks:
        warn_user(
            f"callbacks={estimator.callbacks!r} are code, which is not saved: the loaded "
            "estimator will have callbacks=None.",
        )
    validate_params(estimator)
    parameters = estimator.get_params(deep=False) | {"callbacks": None}
    not_fitted = {*parameters, "_sklearn_version"}
    fitted = {k: v for k, v in estimator.__getstate__().items() if k not in not_fitted}
    check_fitted(type(estimator), fitted)
    encoder = DocumentEncoder(kinds())
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
    _replace(path, _sealed(document, encoder.arrays))


def load(path, *, registry=None, device="auto"):
    """Read an estimator that :func:`save` wrote.

    No code in the file is run: it holds JSON and arrays, and a file with a value of an
    unknown kind is refused. So files from untrusted sources are safe to load, though such a
    model may give wrong results on purpose.

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
        unexpected. It is also a ``ValueError``.
    TypeError
        If `registry` is not a dict, or holds a class instead of an object.
    LookupError
        If a network or function is not in `registry`, or does not fit the file.
    OSError
        If the file cannot be read.

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
    with open(path, "rb") as file:
        content = file.read()
    try:
        document, arrays = _unsealed(content)
        with borrowed_global_generator(0):  # custom networks draw their first weights
            return _restored(document, arrays, registry, device, resolved_device)
    except (MemoryError, Warning):
        raise
    except Exception as error:
        message = f"{os.fspath(path)} cannot be loaded: {str(error).rstrip('.')}."
        if type(error) is LookupError:  # raised where the registry lacks something
            raise LookupError(message) from error
        raise ModelFileError(message) from error


def _restored(document, arrays, registry, device, resolved_device):
    if set(document) != KEYS:
        raise ModelFileError(f"its document has the keys {sorted(document)}")
    name = document["estimator"]
    if document["format"] < FORMATS.get(name, 1):
        raise ModelFileError(
            f"it has format {document['format']} of an {name}, whose scores were other ones; fit "
            "the estimator again"
        )
    cls = ESTIMATORS.get(name)
    if cls is None:
        raise ModelFileError(f"it holds the unknown estimator {document['estimator']!r:.60}")
    decoder = DocumentDecoder(kinds(), arrays, registry=registry, device=resolved_device)
    parameters = _read_pairs(decoder, document["parameters"])
    if set(parameters) != set(cls._get_param_names()):
        raise ModelFileError(f"it has the parameters {sorted(parameters)}")
    estimator = cls(**parameters | {"device": device})
    validate_params(estimator)
    decoder.notes["network"] = network_of_user(estimator)
    warn_if_bfloat16_unsupported(estimator.precision, resolved_device)
    decoder.notes["precision"] = resolve_precision(estimator.precision, resolved_device)
    fitted = ATTRIBUTES.from_file(_read_pairs(decoder, document["fitted"]))
    if decoder.arrays:
        raise ModelFileError(f"it holds unused arrays: {sorted(decoder.arrays)[:3]}")
    check_fitted(cls, fitted)
    vars(estimator).update(fitted)
    check_is_fitted(estimator)
    return estimator


def _read_pairs(decoder, pairs):
    named = {expect(name, str): decoder.read(node) for name, node in expect(pairs, list)}
    if len(named) < len(pairs):
        raise ModelFileError("it holds a name twice")
    return named


# The file: safetensors with a checksum of the whole in its header.


def _sealed(document, arrays):
    """The bytes of a file."""
    from safetensors.numpy import save as tensors_to_bytes

    text = json.dumps(document, allow_nan=False)
    content = bytearray(tensors_to_bytes(arrays, metadata={ENTRY: text}))
    checksum = CHECKSUM.search(content)
    content[slice(*checksum.span(1))] = hashlib.sha256(content).hexdigest().encode()
    return bytes(content)


def _unsealed(content):
    """The document and the arrays of a file's bytes."""
    from safetensors.numpy import load as tensors_from_bytes

    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    if len(content) < 8 or len(header) < length:
        raise ModelFileError("it is truncated, or not a file that skae.save wrote")
    checksums = list(CHECKSUM.finditer(header))
    if len(checksums) != 1:
        raise ModelFileError(
            "it has no checksum: it is damaged, or not a file that skae.save wrote"
        )
    start, end = (8 + position for position in checksums[0].span(1))
    rest = hashlib.sha256(content[:start] + NO_CHECKSUM.encode())
    rest.update(memoryview(content)[end:])
    if rest.hexdigest().encode() != content[start:end]:
        raise ModelFileError("its checksum is wrong: it is damaged")
    metadata = json.loads(header).get("__metadata__")
    if not isinstance(metadata, dict) or set(metadata) != {ENTRY}:
        raise ModelFileError(f"its metadata must hold {ENTRY!r} only")
    document = expect(json.loads(metadata[ENTRY]), dict)
    number = document.get("format")
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise ModelFileError(
            f"it has format {number!r:.20}, written by {document.get('versions')!r:.200}; this "
            f"version of skae reads formats up to {FORMAT}"
        )
    # Arrays are views of the file's bytes, which are read-only.
    arrays = {name: array.copy() for name, array in tensors_from_bytes(content).items()}
    return document, arrays


def _replace(path, content):
    """Write a temporary file beside `path` and rename it; remove it if anything fails."""
    target = os.path.realpath(path)
    if not os.path.isdir(os.path.dirname(target)):
        raise FileNotFoundError(errno.ENOENT, "No such folder to save in", os.path.dirname(target))
    temporary = os.path.join(os.path.dirname(target), f".skae-{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            os.chmod(temporary, os.stat(target).st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
