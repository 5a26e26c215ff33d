"""
==============================
Digits in 2, 8 and 16 numbers
==============================

:class:`~skae.AutoencoderTransformer` can be used wherever ``PCA(k)`` is. This example
uses it on scikit-learn's bundled digits, 1797 images of 8x8 pixels: it compares nearest
neighbours on raw pixels, on PCA's components and on the autoencoder's latents, searches
for the best number of latents in a pipeline, and shows how much a few numbers preserve.

Run it with ``python examples/demo.py --output demo``.
"""  # noqa: D400

import argparse
from pathlib import Path
from time import perf_counter

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer
from skae.comparison import compare_knn

PCA_COLOR, AE_COLOR = "tab:gray", "tab:blue"

# %%
# Comparison with PCA
# -------------------
# :func:`~skae.comparison.compare_knn` fits every transformer on two thirds of the
# rows and evaluates it on the other third, in three folds.


def print_table(X, y):
    transformers = [("raw pixels", "passthrough")]
    for k in (2, 8, 16):
        transformers.append((f"PCA({k})", PCA(k)))
        transformers.append(
            (f"AutoencoderTransformer({k})", AutoencoderTransformer(k, random_state=0))
        )
    table = compare_knn(transformers, X, y, cv=3)
    print("kNN(7) on held-out digits, mean of 3 folds; times are those of one fold.\n")
    print(table.round(3).rename_axis(None).to_string())


# %%
# The number of latents is a parameter like any other
# ----------------------------------------------------


def print_grid_search(X, y):
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderTransformer(random_state=0), KNeighborsClassifier()
    )
    sizes = {"autoencodertransformer__n_components": [4, 8, 16]}
    search = GridSearchCV(pipeline, sizes, cv=2, n_jobs=2).fit(X, y)
    print("\nGrid search over the number of latents in StandardScaler | autoencoder | kNN:")
    for size, score in zip(*sizes.values(), search.cv_results_["mean_test_score"], strict=True):
        print(f"  {size:3d} latents: accuracy {score:.3f}")
    best = search.best_params_["autoencodertransformer__n_components"]
    print(f"  best: {best} latents, accuracy {search.best_score_:.3f}")


# %%
# Originals above their reconstructions
# --------------------------------------
# Eight numbers instead of 64 pixels, for images that neither model was fitted on.


def draw_reconstructions(X_train, X_test, y_test, path):
    shown = [np.flatnonzero(y_test == digit)[0] for digit in range(10)]
    rows = {"original": X_test[shown]}
    for name, model in [("PCA(8)", PCA(8)), ("autoencoder(8)", autoencoder(8))]:
        reconstructed = model.fit(X_train).inverse_transform(model.transform(X_test))
        error = np.mean((reconstructed - X_test) ** 2)
        rows[f"{name}\nerror {error:.2f}"] = reconstructed[shown]

    figure, axes = plt.subplots(3, 10, figsize=(10, 3.4), layout="constrained")
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("lightgray")
    figure.suptitle("Held-out digits reconstructed from 8 numbers (mean squared error per pixel)")
    save(figure, path)


# %%
# The latent-size curve
# ---------------------
# One fit with ``ordered=True`` sorts the latents by importance, so that the first few of
# them can be used alone. ``latent_size_curve_`` is measured in ``fit`` on the validation
# rows; the lines of both models are measured on test rows.


def draw_latent_size_curve(X_train, X_test, path, largest=16):
    ordered = AutoencoderTransformer(largest, ordered=True, random_state=0).fit(X_train)
    pca = PCA(largest).fit(X_train)
    sizes = np.arange(1, largest + 1)

    figure, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for name, model, color in [
        ("autoencoder, one ordered fit (test rows)", ordered, AE_COLOR),
        ("PCA (test rows)", pca, PCA_COLOR),
    ]:
        ax.plot(sizes, prefix_curve(model, X_test), "o-", color=color, ms=4, label=name)
    label = "latent_size_curve_ (the fit's validation rows)"
    ax.plot(sizes, ordered.latent_size_curve_, "x", color="black", label=label)
    ax.set(
        xlabel="latents kept",
        ylabel="share of the variance explained",
        title="Variance of held-out digits explained by the first latents",
        xticks=sizes,
        ylim=(0, 1),
    )
    ax.grid(alpha=0.3)
    ax.legend(loc="lower right", frameon=False)
    save(figure, path)


def prefix_curve(model, X):
    """Share of the variance of X explained by the first 1, 2, ... latents."""
    Z = model.transform(X)
    total = np.sum((X - model.mean_) ** 2)
    curve = []
    for size in range(1, Z.shape[1] + 1):
        first = np.where(np.arange(Z.shape[1]) < size, Z, 0.0)
        curve.append(1 - np.sum((X - model.inverse_transform(first)) ** 2) / total)
    return curve


# %%
# Two latents in a plane
# ----------------------
# Neither model uses the labels, which only colour the points.


def draw_plane(X_train, X_test, y_test, path):
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
    for ax, name, model in zip(
        axes, ("PCA(2)", "AutoencoderTransformer(2)"), (PCA(2), autoencoder(2)), strict=True
    ):
        Z = model.fit(X_train).transform(X_test)
        points = ax.scatter(*Z.T, c=y_test, cmap="tab10", vmin=-0.5, vmax=9.5, s=14)
        for digit in range(10):
            ax.text(
                *np.median(Z[y_test == digit], axis=0),
                str(digit),
                ha="center",
                va="center",
                weight="bold",
                bbox={
                    "boxstyle": "circle",
                    "facecolor": "white",
                    "edgecolor": "gray",
                    "alpha": 0.8,
                },
            )
        ax.set(xlabel="latent 0", ylabel="latent 1", title=name)
    figure.colorbar(points, ax=axes, ticks=range(10), label="digit")
    figure.suptitle("Held-out digits in two numbers")
    save(figure, path)


# %%
# Running everything
# ------------------


def autoencoder(k):
    return AutoencoderTransformer(k, random_state=0)


def save(figure, path):
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the pictures")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    start = perf_counter()

    X, y = load_digits(return_X_y=True)
    print_table(X, y)
    print_grid_search(X, y)

    print()
    X_train, X_test, _, y_test = train_test_split(X, y, random_state=0, stratify=y)
    draw_reconstructions(X_train, X_test, y_test, output / "reconstructions.png")
    draw_latent_size_curve(X_train, X_test, output / "latent_size_curve.png")
    draw_plane(X_train, X_test, y_test, output / "latents_2d.png")
    print(f"\n{perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
