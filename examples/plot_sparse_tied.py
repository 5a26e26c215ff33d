"""
===================================
Tied weights and sparse latents
===================================

What do the classical constraints on an autoencoder do? Decoder weights tied to the encoder's,
an L1 penalty on the weights, an L1 or a Kullback-Leibler penalty on the latents:
:class:`~skae.AutoencoderTransformer` has a parameter for each.

The answer at the end: tying halves the parameters at about the same error, L1 on weights
empties most of them, and of the two penalties on latents L1 switches whole latents off
while the Kullback-Leibler divergence keeps all of them, each for a few images.
"""  # noqa: D400

# %%
# Six networks
# ------------
# All start at random (``init="random"``), as a textbook's autoencoder does, so that nothing but
# the constraint shapes them. The start at PCA, which is the default, reaches lower errors;
# the last line of the table has it for comparison.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

X, y = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X / 16, stratify=y, random_state=0)

constraints = {
    "none": {},
    "tied weights": {"tied_weights": True},
    "L1 on weights": {"l1": 1e-4},
    "L1 on latents": {"sparsity": 0.3},
    "KL on latents": {"sparsity": 0.03, "sparsity_penalty": "kl"},
    "none, start at PCA": {"init": "pca"},
}
models = {
    name: AutoencoderTransformer(
        32, **{"init": "random", "max_epochs": 60, "random_state": 0, **params}
    ).fit(X_train)
    for name, params in constraints.items()
}

# %%
# What they have in common is the test error, which asks for as little constraint as possible. Training
# adds noise of 0.1 to the latents (``latent_noise``), so a latent within 0.1 of zero
# says nothing: call it silent. One that is silent for nearly all images is off.


def weights_of(model):
    """All weights, without biases."""
    matrices = [p for p in model.net_.module_.parameters() if p.ndim == 2]
    return np.concatenate([p.detach().numpy().ravel() for p in matrices])


def describe(model):
    Z = model.transform(X_test)
    silent = np.abs(Z) < 0.1
    return {
        "parameters": sum(p.numel() for p in model.net_.module_.parameters()),
        "test error": model.reconstruction_error(X_test).mean(),
        "weights below 0.01": np.mean(np.abs(weights_of(model)) < 0.01),
        "latents silent": silent.mean(),
        "latents off": np.sum(silent.mean(axis=0) > 0.95),
    }


table = pd.DataFrame({name: describe(model) for name, model in models.items()}).T
print(table.astype({"parameters": int, "latents off": int}).round(4).to_string())
