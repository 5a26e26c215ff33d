"""What does not fit in a saved model is named, with what it must be; no file asks for more."""

import json

import numpy as np
import pytest
import torch
from saved import make as saved

import skae
from skae import persistence
from skae._storage import _documents, _files
from skae._storage._layouts import array, listing, number, one_of, row, whole
from skae.exceptions import ModelFileError


def parts(name):
    return _files.unsealed(saved.path_of(name, "skae").read_bytes())


def load(document, arrays, tmp_path):
    (tmp_path / "model.skae").write_bytes(_files.sealed(document, arrays))
    return skae.load(tmp_path / "model.skae", device="cpu")


def values_at(node, key):
    """All values of a setting or attribute in a document."""
    if isinstance(node, list) and len(node) == 2 and node[0] == key:
        yield node
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            yield from values_at(child, key)


# What is refused, and how it is said.

ARRAYS = [
    ("transformer", "_scaler.scale_", lambda a: a[:2], r"_scaler\.scale_ .*f8 of shape \(3\)"),
    ("transformer", "_scaler.center_", lambda a: a[:1], r"_scaler\.center_ .*shape \(3\)"),
    ("transformer", "_scaler.scale_", np.zeros_like, r"_scaler\.scale_ holds values below"),
    ("transformer", "mean_", lambda a: a * np.nan, r"mean_ holds values that are not finite"),
    ("transformer", "net_.module.link.scale", lambda a: a[:1], r"link\.scale .*shape \(3,\)"),
    ("denoiser", "gaussian_.precision_", lambda a: a[:, :2], r"gaussian_\.precision_ .*\(3, 3\)"),
    ("denoiser", "missing_columns_", lambda a: a + 9, "missing_columns_ must be below 3"),
    ("detector", "_rule.surprises.knots", lambda a: a[:2], r"_rule\.surprises\.knots .*\(6, "),
    ("detector", "_rule.member_means", lambda a: a[:1], r"_seen\.raw .*|net_\.n_members must be 1"),
    ("detector", "net_.left.views_.rows", lambda a: a[:, :2], r"net_\.views_\.rows .*, 3\)"),
    (
        "detector",
        "net_.left.views_.radii",
        lambda a: a[:1],
        r"net_\.views_\.radii must",
    ),
    ("detector", "net_.module.baseline", lambda a: a[:1], r"baseline must be .*\(3,\)"),
    ("conditional", "_targets.met_", lambda a: a[:9], r"_targets\.quantiles_ .*shape \(201\)"),
    (
        "conditional",
        "_group_weights",
        lambda a: a[:1],
        "_group_weights .*of 2 groups",
    ),
    ("generator", "prior_.means_", lambda a: a[:, :1], r"prior_\.means_ .*shape \(\d+, 2\)"),
    ("generator", "_scaler.n_levels", lambda a: a[:-1], r"_scaler\.n_levels .*shape \(5\)"),
]


@pytest.mark.parametrize(("model", "name", "change", "message"), ARRAYS)
def test_arrays_that_do_not_fit_are_named(model, name, change, message, tmp_path):
    document, arrays = parts(model)
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    with pytest.raises(ModelFileError, match=message):
        load(document, arrays, tmp_path)


def test_dtypes_that_do_not_fit_are_named(tmp_path):
    document, arrays = parts("transformer")
    arrays["mean_"] = arrays["mean_"].astype(np.float32)
    next(pair for pair in document["fitted"] if pair[0] == "mean_")[1]["dtype"] = "<f4"
    with pytest.raises(ModelFileError, match=r"mean_ must be an array of f8.*float32"):
        load(document, arrays, tmp_path)
    document, arrays = parts("transformer")
    name = "net_.module.encoder.path.weight"
    arrays[name] = arrays[name].astype(np.float64)
    text = json.dumps(document).replace(
        f'"name": "{name}", "dtype": "torch.float32"', f'"name": "{name}", "dtype": "torch.float64"'
    )
    with pytest.raises(ModelFileError, match=r"encoder\.path\.weight must be a tensor of float32"):
        load(json.loads(text), arrays, tmp_path)


@pytest.mark.parametrize("key", ["high_", "n_latents", "gain", "activation", "loss", "input_noise"])
def test_what_is_missing_is_named(key, tmp_path):
    document, arrays = parts("transformer")
    pair = next(
        pair for pair in values_at(document["fitted"], key) if not str(pair[1]).startswith("'")
    )

    def without(node):
        if isinstance(node, dict):
            return {k: without(v) for k, v in node.items()}
        return [without(v) for v in node if v is not pair] if isinstance(node, list) else node

    with pytest.raises(ModelFileError, match=rf"{key}.* is missing|must consist of .*{key}"):
        load(without(document), arrays, tmp_path)


def test_parameters_cannot_be_set_past_their_checks(tmp_path):
    for name in ("alpha", "_rows_kept", "transform"):
        document, arrays = parts("transformer")
        document["fitted"].append([name, "x"])
        with pytest.raises(ModelFileError, match=r"fitted attributes|no attribute"):
            load(document, arrays, tmp_path)


def test_networks_in_parameters_are_whole(tmp_path):
    document, arrays = parts("convolution")
    next(pair for pair in document["parameters"] if pair[0] == "network")[1]["items"].pop(0)
    with pytest.raises(ModelFileError, match=r"network\.image_shape is missing"):
        load(document, arrays, tmp_path)


def test_a_row_is_tried(tmp_path):
    """Weights that are finite can still give what is not."""
    document, arrays = parts("transformer")
    for name in arrays:
        if name.endswith(("path.weight", "path.bias")):
            arrays[name] = np.full_like(arrays[name], 3e38)
    with pytest.raises(ModelFileError, match="not finite"):
        load(document, arrays, tmp_path)


def test_what_could_not_be_loaded_is_named_by_save(tmp_path):
    model = saved.MODELS["transformer"]()
    model.mean_ = model.mean_[:2]
    with pytest.raises(TypeError, match=r"cannot be saved: mean_ must be.*shape \(3\)"):
        skae.save(model, tmp_path / "model.skae")
    assert not list(tmp_path.iterdir())


# Memory and time in proportion to the file.


def set_all(document, key, value):
    pairs = list(values_at(document["fitted"], key))
    assert pairs
    for pair in pairs:
        pair[1] = value


PAIR = {"is": "tuple", "items": [99, 99]}


@pytest.mark.parametrize(
    ("key", "value"),
    [("padding", PAIR), ("stride", PAIR), ("dilation", PAIR), ("output_padding", PAIR)],
)
def test_layers_give_out_no_more_than_the_file_can_stand_for(key, value, tmp_path):
    document, arrays = parts("convolution")
    set_all(document, key, value)
    with pytest.raises(ModelFileError, match=r"too large|cannot read|padding|give out"):
        load(document, arrays, tmp_path)


def value_of(document, name, value):
    next(values_at(document["fitted"], name))[1] = value


def texts(n):
    items = ["a"] * 100 + ["b" * 100]
    node = {"is": "objects", "kind": "U", "shape": [101], "items": items}
    return [node] * n


def layers(n):
    node = {"is": "module", "class": "Identity", "settings": [], "parts": []}
    again = {"is": "module", "class": "same module", "settings": 0, "parts": []}
    return [node] + [again] * n


def categories(n):
    dtype = {"is": "dtype", "name": "|O"}
    index = {"is": "pandas index", "values": [], "dtype": dtype, "names": [None]}
    return [{"is": "pandas dtype", "name": "category", "categories": [index, False]}] * n


@pytest.mark.parametrize("many", [texts, layers, categories])
def test_values_together_take_no_more_memory_than_the_file(many, tmp_path, monkeypatch):
    """Each is harmless, and none is refused by itself."""
    monkeypatch.setattr(_documents, "FREE_BYTES", 100_000)
    document, arrays = parts("transformer")
    value_of(document, "n_iter_", many(3))
    with pytest.raises(ModelFileError, match="n_iter_ must be"):
        load(document, arrays, tmp_path)
    value_of(document, "n_iter_", many(600))
    with pytest.raises(ModelFileError, match="far more memory than the file"):
        load(document, arrays, tmp_path)


def test_fields_of_different_shapes_are_refused(tmp_path):
    """One number would be repeated for each row of another field."""
    document, arrays = parts("transformer")
    arrays["rows"] = np.zeros(100, dtype=bool)
    fields = [["x", {"is": "array", "name": "rows", "dtype": "|b1"}]]
    fields.append(["y", {"is": "scalar", "dtype": "<f8", "value": 1.0}])
    value_of(document, "n_iter_", {"is": "fields", "fields": fields})
    with pytest.raises(ModelFileError, match="fields of different shapes"):
        load(document, arrays, tmp_path)


def test_networks_of_ones_own_are_not_built_too_large(tmp_path):
    document, arrays = parts("own_network")
    text = json.dumps(document)
    assert '"settings": [0, 3, 2, 0]' in text
    changed = text.replace('"settings": [0, 3, 2, 0]', '"settings": [0, 3000, 2000, 0]')
    (tmp_path / "model.skae").write_bytes(_files.sealed(json.loads(changed), arrays))
    with pytest.raises(ModelFileError, match="too large for the file"):
        skae.load(tmp_path / "model.skae", registry={"Shallow": saved.Shallow()})


# The layouts themselves.


def refused(layout, value, **sizes):
    try:
        layout(value, "x", sizes)
    except ValueError as error:
        return str(error)
    return None


def test_sizes_are_shared():
    sizes = {}
    array("f8", "n", "d")(np.zeros((2, 3)), "x", sizes)
    assert sizes == {"n": 2, "d": 3}
    array("f8", "d+1")(np.zeros(4), "x", sizes)
    with pytest.raises(ValueError, match=r"y must be .*f8 of shape \(3\); it is .*\(4,\)"):
        array("f8", "d")(np.zeros(4), "y", sizes)


@pytest.mark.parametrize(
    ("layout", "right", "wrong"),
    [
        (
            array("f8", "n"),
            np.zeros(2),
            [np.zeros(2, "f4"), np.zeros((2, 1)), [0.0], np.r_[np.nan]],
        ),
        (array("i", 2), np.zeros(2, int), [np.zeros(2), np.zeros(3, int), np.zeros(2, "u4")]),
        (array("f8", "n", special="inf"), np.r_[np.inf], [np.r_[np.nan]]),
        (array("f8", "n", special="nan"), np.r_[np.nan], [np.zeros(0, "O")]),
        (array("f8", "n", low=0), np.r_[0.0], [np.r_[-1.0]]),
        (number(0, 1), 0.5, [-0.1, 1.1, np.nan, np.inf, True, "1", None]),
        (whole(1), np.int64(3), [0, 1.0, True, None]),
        (one_of(None, "a"), "a", ["b", 0, False]),
        (listing(whole(0)), [1, 2], [(1, 2), [1, -1], None]),
        (row(whole(0), whole(0)), (1, 2), [(1,), [1, 2], (1, -2)]),
    ],
)
def test_layouts_accept_what_fits_and_nothing_else(layout, right, wrong):
    assert refused(layout, right) is None
    assert all("x" in refused(layout, value) for value in wrong)


def test_loading_computes_little():
    """Rows are tried one by one: nothing that parameters ask for is done."""
    document, arrays = parts("generator")
    next(values_at(document["parameters"], "n_importance_samples"))[1] = 10**9
    with persistence._errors_of_file("x"):
        model = persistence._restored(document, arrays, 60_000, {}, "cpu", torch.device("cpu"))
    assert model.n_importance_samples == 10**9
