"""
===================================
Tied weights and sparse latents
===================================

What do the classical constraints on an autoencoder do? Decoder weights tied to the encoder's,
an L1 penalty on the weights, an L1 or a Kullback-Leibler penalty on the latents:
:class:`~skae.AutoencoderTransformer` has a parameter for each.

In short: tying halves the number of parameters at about the same error, and L1 on weights brings
most of them close to zero. Of the two penalties on latents, L1 switches off whole latents, while
the Kullback-Leibler divergence keeps all of them in use, each for a few images.
"""  # noqa: D400

# %%
# Six networks
# ------------
# All start at random (``init="random"``), like a textbook autoencoder, so that they differ only in
# the constraint. The start at PCA, which is the default, reaches lower errors; it is in the last
# line of the table for comparison.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skae import AutoencoderTransformer

X, y = load_digits(return_X_y=True)
X_train, X_test = train_test_split(X / 16, stratify=y, random_state=0)

constraints = {
    "none": {},
    "tied weights": {"tied_weights": True},
    "L1 on weights": {"l1": 2e-5},
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
# Training adds noise of 0.1 to the latents (``latent_noise``), so a latent within 0.1 of zero
# carries almost no information: call it silent for that image. A latent that is silent for nearly
# all images is off. The strengths of the three penalties were chosen for about the same error.
# Noise and penalties are in the units of the encoder, so we look at what it gives out for scaled
# images; ``transform`` gives the same in the units of the pixels and, without `sparsity`, along
# principal axes.


def weights_of(model):
    """All weights, without biases."""
    matrices = [p for p in model.net_.module_.parameters() if p.ndim == 2]
    return np.concatenate([p.detach().numpy().ravel() for p in matrices])


def codes(model):
    """What the encoder gives out for test images, of shape (n_test, 32)."""
    scaled = (X_test - X_train.mean(axis=0)) / np.sqrt(X_train.var(axis=0).mean())
    with torch.no_grad():
        return model.net_.module_.code(torch.from_numpy(scaled).float()).numpy()


def silent(model):
    """Where latents of test images are close to zero, of shape (n_test, 32)."""
    return np.abs(codes(model)) < 0.1


def describe(model):
    return {
        "parameters": sum(p.numel() for p in model.net_.module_.parameters()),
        "test error": model.reconstruction_error(X_test).mean(),
        "weights below 0.01": np.mean(np.abs(weights_of(model)) < 0.01),
        "latents silent": silent(model).mean(),
        "latents off": np.sum(silent(model).mean(axis=0) > 0.95),
    }


table = pd.DataFrame({name: describe(model) for name, model in models.items()}).T
print(table.astype({"parameters": int, "latents off": int}).round(4).to_string())

# %%
# Weights as images
# -----------------
# Each unit of the first hidden layer has one weight per pixel. The twenty with the largest
# weights, red for positive and blue for negative ones:

shown = ["none", "tied weights", "L1 on weights"]
figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
figure.get_layout_engine().set(wspace=0.08)
for ax, name in zip(axes, shown, strict=True):
    weights = models[name].net_.module_.encoder.layers[0].weight.detach().numpy()
    largest = np.argsort(-np.abs(weights).sum(axis=1))[:20]
    tiles = np.full((4, 9, 5, 9), np.nan)  # a pixel of margin around each unit
    tiles[:, :8, :, :8] = weights[largest].reshape(4, 5, 8, 8).transpose(0, 2, 1, 3)
    ax.imshow(tiles.reshape(36, 45)[:-1, :-1], cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    ax.set_title(f"{name}: error {table.loc[name, 'test error']:.4f}")
    ax.set_axis_off()
plt.show()

# %%
# Two ways to be sparse
# ---------------------
# Above, the values of all latents on test images; below, the share of the images for which each
# latent is not silent.

shown = ["none", "L1 on latents", "KL on latents"]
figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharey="row", layout="constrained")
bins = np.linspace(-2, 2, 81)
for (top, bottom), name in zip(axes.T, shown, strict=True):
    top.hist(codes(models[name]).ravel(), bins, density=True, color="tab:blue")
    top.axvspan(-0.1, 0.1, color="tab:orange", alpha=0.25, label="silent")
    top.set(xlabel="value of a latent", title=name, xlim=(-2, 2))
    active = np.sort(1 - silent(models[name]).mean(axis=0))[::-1]
    bottom.bar(np.arange(1, 33), active, color="tab:blue")
    bottom.set(xlabel="latents, most active first", ylim=(0, 1))
axes[0, 0].set_ylabel("density")
axes[0, 0].legend(frameon=False)
axes[1, 0].set_ylabel("share of images where not silent")
plt.show()

# %%
# Conclusion
# ----------
# Tied weights halve the number of parameters and, on these digits, do not increase the error. L1 on
# the weights brings four times as many of them close to zero, so that a unit depends on fewer
# pixels. On the latents, L1 gives a smaller code: about half of the latents are off, the others
# active for most images. The divergence, which rewards latents that are seldom active, leaves all
# of them in use, each for some of the images; choose it to interpret latents one by one.
#
# None of this makes reconstructions better than the default start at PCA does; use constraints for
# their effect on weights and latents. With that start, a strong penalty may change nothing: if
# no epoch reconstructs held-out rows better than PCA, the start is kept.
