"""Models saved by earlier versions, and their results: later versions must read them.

But for detectors and denoisers of format 1, whose scores and parameters had another meaning.
``python tests/saved/make.py`` writes those of the present formats. Keep the files of a format
that has been released as they are, and write new ones beside them.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

import skae
from skae import relations

TRANSFORMERS = ("transformer", "tied", "ordered", "convolution", "own_network")
GENERATORS = ("generator", "conditional", "bernoulli", "related")
FORMAT = 3  # of all of them
X = np.random.default_rng(0).normal(size=(80, 3)).cumsum(axis=1)
HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"]).assign(
    level=np.where(X[:, 0] > 0, "up", "down"),
    day=pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(80) % 9, "D"),
)
HOLED_FRAME = FRAME.mask(np.random.default_rng(3).random(FRAME.shape) < 0.2)
IMAGES = np.random.default_rng(2).random((40, 16))
_n = np.arange(80)
RELATED = pd.DataFrame(
    {
        **{"low": X[:, 0], "high": X[:, 0] + X[:, 1] ** 2, "a": _n % 7, "b": _n % 11},
        **{"total": _n % 7 + _n % 11, "even": 1 - _n % 2, "odd": _n % 2, "time": 37 * _n % 2400},
        **{"hour": 37 * _n % 2400 // 100, "city": _n % 5, "state": _n % 5 // 2},
        **{
            "kind": _n % 3,
            "gap": np.where(_n % 3 == 1, np.nan, X[:, 2]),
            "day": 20240201 + _n % 29,
        },
        **{"make": _n % 4, "model": _n % 4 + _n // 4 % 2},
    }
)
RELATIONS = [
    relations.Inequality("low", "high"),
    relations.Sum("total", ["a", "b"]),
    relations.OneOf(["even", "odd"]),
    relations.Formula("hour", "time // 100"),
    relations.Formula("state", of="city"),
    relations.Gap("gap", by="kind", values=[1]),
    relations.YearMonthDay("day"),
    relations.Combination(["make", "model"]),
]
QUICK = {"hidden_layer_sizes": (3,), "max_epochs": 2, "random_state": 0, "device": "cpu"}


class Shallow:
    """A custom network."""

    def build(self, n_features, n_components):
        """Return an encoder and a decoder."""
        return nn.Sequential(nn.Linear(n_features, n_components), nn.Hardtanh(-9, 9)), nn.Linear(
            n_components, n_features
        )


MODELS = {
    "transformer": lambda: skae.AutoencoderTransformer(2, **QUICK).fit(X),
    "tied": lambda: skae.AutoencoderTransformer(2, tied_weights=True, **QUICK).fit(X),
    "ordered": lambda: skae.AutoencoderTransformer(0.9, **QUICK).fit(X),
    "convolution": lambda: skae.AutoencoderTransformer(
        2, network=skae.networks.ConvNetwork((1, 4, 4), (2,)), **QUICK
    ).fit(IMAGES),
    "own_network": lambda: skae.AutoencoderTransformer(2, network=Shallow(), **QUICK).fit(X),
    "mixed": lambda: skae.AutoencoderTransformer(2, **QUICK).fit(FRAME),
    "denoiser": lambda: skae.DenoisingAutoencoder(**QUICK).fit(HOLES),
    "mixed_denoiser": lambda: skae.DenoisingAutoencoder(**QUICK).fit(HOLED_FRAME),
    "detector": lambda: skae.AutoencoderOutlierDetector(**QUICK).fit(X),
    "mixed_detector": lambda: skae.AutoencoderOutlierDetector(**QUICK).fit(FRAME),
    "generator": lambda: skae.VAEGenerator(2, refine=True, **QUICK).fit(FRAME),
    "conditional": lambda: skae.VAEGenerator(2, conditional=True, **QUICK).fit(X, FRAME["level"]),
    "related": lambda: skae.VAEGenerator(2, relations=RELATIONS, **QUICK).fit(RELATED),
    "private": lambda: skae.VAEGenerator(2, private_values=True, **QUICK).fit(X),
    "bernoulli": lambda: skae.VAEGenerator(2, likelihood="bernoulli", **QUICK).fit(IMAGES),
}


def path_of(name, ending, number=None):
    """Path of a file of a model, in the folder of its format, or of another."""
    folder = f"format{number or FORMAT}"
    return Path(__file__).parent / folder / f"{name}.{ending}"


def results(model):
    """Results of a model for training rows and for others, as numbers."""
    rows = {3: X, 5: FRAME}.get(model.n_features_in_, IMAGES)
    rows = RELATED if getattr(model, "relations_", None) else rows
    rows = HOLED_FRAME if hasattr(model, "blend_") and rows is FRAME else rows
    found = {"error": model.reconstruction_error(rows)}
    if hasattr(model, "transform"):
        found["transform"] = numbers_of(model.transform(rows))
    if hasattr(model, "score_samples"):
        y = (FRAME["level"],) if getattr(model, "conditional", False) else ()
        found["scores"] = model.score_samples(rows, *y)
    if hasattr(model, "predict"):
        found["decisions"] = model.decision_function(rows)
    # Draws are of torch's version; what they are made of is not.
    rows = model.decode(np.linspace(-1, 1, 4 * model.net_.n_latents).reshape(4, -1))
    found["rows"] = numbers_of(rows)
    return {name: np.asarray(value, dtype=float).tolist() for name, value in found.items()}


def numbers_of(rows):
    """Rows, without columns that hold no numbers."""
    return rows.select_dtypes("number") if hasattr(rows, "iloc") else rows


if __name__ == "__main__":
    for name, make in MODELS.items():
        model = make()
        path_of(name, "skae").parent.mkdir(exist_ok=True)
        skae.save(model, path_of(name, "skae"))
        path_of(name, "json").write_text(json.dumps(results(model)))
