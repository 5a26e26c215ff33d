"""Write a method of a fitted estimator as an ONNX model."""

import numpy as np

from skae._version import __version__


def to_onnx(estimator, method="transform", *, dtype=np.float32):
    """Write a method of a fitted estimator as an ONNX model.

    The model contains everything that the method computes: scaling, clipping, filling missing
    cells (NaN), the network, scores and the threshold. It runs without skae, scikit-learn and
    PyTorch, on one row or more.

    Parameters
    ----------
    estimator : AutoencoderTransformer, DenoisingAutoencoder, VAEGenerator or \
AutoencoderOutlierDetector
        The fitted estimator.
    method : str, default="transform"
        The method to write: ``"encode"``, ``"decode"``, ``"reconstruct"``,
        ``"reconstruction_error"`` or, where the estimator has a method of this name,
        ``"transform"``, ``"inverse_transform"``, ``"score_samples"``, ``"decision_function"``
        or ``"predict"``.
    dtype : {np.float32, np.float64}, default=np.float32
        Type of the input and the output of the model, except labels. The network computes in
        float32, as in the estimator; with float64, rows are scaled before they are rounded,
        which matters where values are large and differ little.

    Returns
    -------
    model : onnx.ModelProto
        One input, ``"X"`` of shape (n_samples, n_features) or, for ``"decode"`` and
        ``"inverse_transform"``, (n_samples, n_latents). One output with the name of the method.

    Raises
    ------
    ImportError
        If the package onnx is missing.
    ValueError
        If the estimator has no such method, or if it cannot be written, as for columns of
        levels or dates and for random draws; the error gives the reason and the methods that
        can be written.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    Results differ from the estimator's by rounding in float32, so the label of a row on the
    threshold may differ. With ``precision="bfloat16"`` the estimator itself rounds more.

    Layers of a custom `network` that are not known to skae are written by
    ``torch.onnx.export``.

    skl2onnx converts pipelines with skae's estimators: transformers to the output of
    ``transform``, detectors to labels and ``decision_function``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer, to_onnx
    >>> X = load_digits().data.astype(np.float32)
    >>> model = AutoencoderTransformer(8, max_epochs=2, random_state=0).fit(X)
    >>> onnx_model = to_onnx(model)
    >>> import onnxruntime
    >>> session = onnxruntime.InferenceSession(onnx_model.SerializeToString())
    >>> (Z,) = session.run(None, {"X": X})
    >>> bool(np.allclose(Z, model.transform(X), atol=1e-4))
    True
    """
    onnx = import_onnx()
    # The writers are imported only when they are used.
    from skae.interchange._graph import IR_VERSION, OPSET, Graph
    from skae.interchange._methods import ONE_PER_ROW, READ_LATENTS, write_method
    from skae.interchange._onnx_trees import ML_DOMAIN, ML_OPSET

    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype={dtype.name!r} must be np.float32 or np.float64.")
    graph = Graph()
    X = graph.value(dtype, "X")
    output = write_method(estimator, method, X).named(method)
    reads_latents = method in READ_LATENTS
    width = estimator.net_.n_latents if reads_latents else estimator.n_features_in_
    versions = {"": OPSET, ML_DOMAIN: ML_OPSET}
    if not any(node.domain == ML_DOMAIN for node in graph.nodes):
        del versions[ML_DOMAIN]
    shape = ["n_samples"] if method in ONE_PER_ROW else ["n_samples", None]
    model = onnx.helper.make_model(
        graph.proto([(X, ["n_samples", width])], [(output, shape)], type(estimator).__name__),
        opset_imports=[onnx.helper.make_opsetid(*pair) for pair in versions.items()],
        ir_version=IR_VERSION,
        producer_name="skae",
        producer_version=__version__,
    )
    metadata = {"skae_version": __version__, "estimator": type(estimator).__name__}
    onnx.helper.set_model_props(model, {**metadata, "method": method})
    onnx.checker.check_model(model, full_check=True)
    return model


def import_onnx():
    try:
        import onnx
    except ImportError as error:
        raise ImportError(
            'onnx is needed to write ONNX models: pip install "skae[onnx]"'
        ) from error
    return onnx
