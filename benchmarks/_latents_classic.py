"""The section "classic" of `bench_latents.py`: 784-k-784 networks, one layer on each side."""

from dataclasses import dataclass

import numpy as np
from _common import load_images, markdown_table, report, results_folder
from _latents import autoencoder, chosen, fit_and_measure
from sklearn.decomposition import PCA
from torch import nn

CLASSIC_SIZES = (8, 16, 64)
PUBLISHED_FASHION_MSE = 0.0088
PICTURE = "latents_classic.png"
N_DIGITS = 12


@dataclass
class ClassicNetwork:
    """The textbook autoencoder: a linear layer and ReLU, then a linear layer."""

    def build(self, n_features, n_components):
        encoder = nn.Sequential(nn.Linear(n_features, n_components), nn.ReLU())
        return encoder, nn.Linear(n_components, n_features)


CLASSIC_PARAMS = {"init": "random", "latent_noise": 0.0, "output_activation": "logistic"}
CLASSIC_CODES = {
    "ReLU (`network=`)": {"network": ClassicNetwork()},
    "linear (`hidden_layer_sizes=()`)": {"hidden_layer_sizes": ()},
}


def measure_classic(args):
    return {
        "mnist": measure_classic_mnist(
            *load_images("mnist", args.data)[::2], chosen(CLASSIC_SIZES, args)
        ),
        "fashion": measure_fashion_64(*load_images("fashion_mnist", args.data)[::2]),
    }


def measure_classic_mnist(X_train, X_test, sizes):
    """Errors of PCA and all networks; digits and those of the textbook's are drawn."""
    rows, pictures = [], {"originals": X_test[:N_DIGITS]}
    for k in sizes:
        pca = PCA(k, random_state=0)
        pca_mse = fit_and_measure(pca, X_train, X_test)["mse"]
        pictures[f"PCA, {k}"] = reconstructed(pca, X_test)
        for code, params in CLASSIC_CODES.items():
            for loss in ("squared_error", "binary_cross_entropy"):
                model = autoencoder(k, loss=loss, **params, **CLASSIC_PARAMS)
                measured = fit_and_measure(model, X_train, X_test)
                row = {"latents": k, "code": code, "loss": loss, "test MSE": measured["mse"]}
                row |= {"PCA's": pca_mse, "fit seconds": measured["seconds"]}
                rows.append(row)
                report(row)
                if "network" in params:
                    pictures[f"{loss.replace('_', ' ')}, {k}"] = reconstructed(model, X_test)
    draw_pictures(pictures)
    return rows


def reconstructed(model, X_test):
    """The first test digits through encoder and decoder."""
    return model.inverse_transform(model.transform(X_test[:N_DIGITS]))


def draw_pictures(pictures):
    """Draw a row of digits for each name: the originals and, below them, reconstructions."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    size = 0.55  # inches a digit
    height = size * len(pictures)
    figure, ax = plt.subplots(figsize=(size * N_DIGITS + 2, height + 0.2))
    images = np.vstack([np.hstack(rows.reshape(-1, 28, 28)) for rows in pictures.values()])
    ax.imshow(images, cmap="gray_r", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=14 + 28 * np.arange(len(pictures)), yticklabels=list(pictures))
    ax.tick_params(length=0)
    ax.hlines(28 * np.arange(1, len(pictures), 3) - 0.5, -0.5, 28 * N_DIGITS - 0.5, lw=0.6)
    figure.savefig(results_folder() / PICTURE, dpi=110, bbox_inches="tight")
    plt.close(figure)


def measure_fashion_64(X_train, X_test):
    classic = {"network": ClassicNetwork(), **CLASSIC_PARAMS}
    models = {
        "PCA": PCA(64, random_state=0),
        "classic, ReLU code, squared error, 10 epochs": autoencoder(64, max_epochs=10, **classic),
        "autoencoder, 10 epochs": autoencoder(64, max_epochs=10),
        "autoencoder, default settings": autoencoder(64),
    }
    rows = []
    for name, model in models.items():
        measured = fit_and_measure(model, X_train, X_test)
        row = {"method": name, "test MSE": measured["mse"], "published": PUBLISHED_FASHION_MSE}
        rows.append(row | {"fit seconds": measured["seconds"]})
        report(rows[-1])
    return rows


def format_classic(part):
    return (
        "## The classic 784-k-784 network on MNIST",
        "Encoder and decoder of one layer each, logistic output, random initial weights, no latent "
        "noise; training (batch, epochs, schedule, restored best epoch) is that of the defaults. "
        "The textbook network has a ReLU code and is passed as `network=`; "
        "`hidden_layer_sizes=()` is the same with a linear code.",
        markdown_table(part["mnist"]),
        f"![Test digits above their reconstructions]({PICTURE})",
        "The first test digits, and below them, for each number of latents, the reconstructions of "
        "PCA and of the textbook network (ReLU code) trained with squared error and with binary "
        "cross-entropy.",
        "## Fashion-MNIST, 64 latents",
        f"Published for a single-layer network after 10 epochs: {PUBLISHED_FASHION_MSE}.",
        markdown_table(part["fashion"]),
    )
