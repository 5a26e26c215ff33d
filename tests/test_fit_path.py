"""A fit stays short to read: few methods of the estimator, in few files."""

import importlib.util

import pytest

# Methods, and changes of file between them, at most; one of each is the wrapper of public methods.
# Hooks of a mixin, as they were before there were plans, took 49 and 18, with folds 47 and 68; and
# 36, 60 and 53 methods.
AT_MOST = {
    "AutoencoderTransformer": (28, 13),  # rows come in by the door for mixed tables, some from disk
    "AutoencoderTransformer, folds": (28, 20),
    "AutoencoderOutlierDetector": (23, 18),  # by the same door
    "DenoisingAutoencoder, folds": (34, 20),  # so they do here
    "VAEGenerator": (36, 25),  # relations are found, values of few rows counted, trees grown
}


@pytest.fixture(scope="module")
def fit_path(repository):
    path = repository / "tools" / "fit_path.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_fit_visits_few_methods(fit_path):
    seen = {}
    for name, estimator, X in fit_path.fits():
        methods, functions = fit_path.visited(estimator, X)
        assert set(methods) <= set(functions)
        seen[name] = len(set(methods)), fit_path.changes_of_file(methods)
    assert set(seen) == set(AT_MOST)
    assert {name for name in seen if not all(map(int.__le__, seen[name], AT_MOST[name]))} == set()
