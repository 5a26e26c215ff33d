"""
======================================
Removing noise from images and signals
======================================

When is it worth learning to remove noise? A Gaussian filter assumes that neighbouring values are
similar, PCA that rows lie near a plane; each has one parameter to choose.
:class:`~skae.DenoisingAutoencoder` learns from clean rows, to which it adds noise itself. This
example compares the three on digits and on simulated pulses, and then on signals unlike any in
training.

In short: on rows like those in training, the error of the autoencoder is about half that of the
best baseline or less; on signals of another kind it is worse than doing nothing.
"""  # noqa: D400

# %%
# Three ways to remove noise
# --------------------------
# The baselines use their best settings, chosen on the test rows themselves; the autoencoder is
# given the noise level and never sees a test row.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from skae import DenoisingAutoencoder


def squared_error(rows, clean):
    return np.square(rows - clean).mean()


def best_filter(noisy, clean, shape):
    """Gaussian filter of the width with the least error, along all axes of a row."""
    rows = noisy.reshape(-1, *shape)
    filtered = [
        gaussian_filter(rows, (0, *len(shape) * [width])).reshape(noisy.shape)
        for width in (0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 3.0)
    ]
    return min(filtered, key=lambda rows: squared_error(rows, clean))


def best_pca(train, noisy, clean):
    """Projection on the number of components with the least error."""
    projected = []
    for k in (2, 4, 6, 8, 10, 12, 16, 20, 24):
        pca = PCA(k, random_state=0).fit(train)
        projected.append(pca.inverse_transform(pca.transform(noisy)))
    return min(projected, key=lambda rows: squared_error(rows, clean))


def compare(model, train, noisy, clean, shape):
    """Test rows as they are and cleaned in three ways."""
    return {
        "clean": clean,
        "noisy": noisy,
        "Gaussian filter": best_filter(noisy, clean, shape),
        "PCA": best_pca(train, noisy, clean),
        "autoencoder": model.transform(noisy),
    }


def errors_of(cleaned):
    return {name: squared_error(rows, cleaned["clean"]) for name, rows in cleaned.items()}


# %%
# Digits
# ------
# Every pixel gets Gaussian noise whose standard deviation is a quarter of the range. The noise
# level is in the units of the pixels.

NOISE = 0.25
digits_train, digits_test = train_test_split(load_digits().data / 16, random_state=0)
rng = np.random.default_rng(0)
noisy = digits_test + NOISE * rng.normal(size=digits_test.shape)
cleaner = DenoisingAutoencoder(noise="gaussian", noise_level=NOISE, scaling=None, random_state=0)
images = compare(cleaner.fit(digits_train), digits_train, noisy, digits_test, (8, 8))
errors = {"digits": errors_of(images)}

figure, axes = plt.subplots(len(images), 10, figsize=(9, 5), layout="constrained")
for line, (name, rows) in zip(axes, images.items(), strict=True):
    error = "" if name == "clean" else f"\nerror {errors['digits'][name]:.3f}"
    line[0].set_ylabel(name + error, rotation=0, ha="right", va="center")
    for ax, row in zip(line, rows[:10], strict=True):
        ax.imshow(row.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("lightgray")
plt.show()

# %%
# Signals
# -------
# Pulses somewhat like heartbeats: a spike, a dip and then a slow wave, whose places, widths and
# heights differ from row to row.

time = np.linspace(0, 1, 96)


def bump(place, width):
    return np.exp(-0.5 * ((time - place) / width) ** 2)


def pulses(n, rng):
    """Spike, dip and wave, of shape (n, 96)."""
    place, width = rng.uniform(0.3, 0.5, (n, 1)), rng.uniform(0.015, 0.03, (n, 1))
    delay, height = rng.uniform(0.2, 0.35, (n, 1)), rng.uniform(0.3, 0.6, (n, 1))
    dip = 0.35 * bump(place + 2.2 * width, 1.2 * width)
    return bump(place, width) - dip + height * bump(place + delay, 0.06)


def steps(n, rng):
    """Levels between three jumps, of shape (n, 96): not like pulses at all."""
    jumps = np.sort(rng.uniform(0, 1, (n, 3)), axis=1)
    levels = rng.uniform(-0.5, 1, (n, 4))
    return np.take_along_axis(levels, (time > jumps[..., None]).sum(axis=1), axis=1)


NOISE = 0.2
pulses_train, pulses_test, steps_test = pulses(1500, rng), pulses(400, rng), steps(400, rng)
cleaner = DenoisingAutoencoder(noise="gaussian", noise_level=NOISE, scaling=None, random_state=0)
cleaner.fit(pulses_train)
signals = {}
for name, clean in (("pulses", pulses_test), ("steps, trained on pulses", steps_test)):
    noisy = clean + NOISE * rng.normal(size=clean.shape)
    signals[name] = compare(cleaner, pulses_train, noisy, clean, (96,))
    errors[name] = errors_of(signals[name])

table = pd.DataFrame(errors).drop("clean").T
print(table.round(4).to_string())

# %%

figure, axes = plt.subplots(
    2, 3, figsize=(11, 5.4), sharex=True, sharey="row", layout="constrained"
)
for line, (kind, cleaned) in zip(axes, signals.items(), strict=True):
    line[0].set_ylabel(kind)
    for ax, name in zip(line, ("Gaussian filter", "PCA", "autoencoder"), strict=True):
        ax.plot(time, cleaned["noisy"][0], color="lightgray", label="noisy")
        ax.plot(time, cleaned["clean"][0], color="black", lw=1, label="clean")
        ax.plot(time, cleaned[name][0], color="tab:blue", label="cleaned")
        ax.set_title(f"{name}: error {errors[kind][name]:.4f}", fontsize=10)
axes[0, 0].legend(frameon=False, fontsize="small")
plt.show()

# %%
# Conclusion
# ----------
# On digits and pulses like those in training, the error of the autoencoder is about half that of
# PCA or less, and PCA is better than the filter: knowing what rows look like is worth more than
# knowing that neighbouring values are similar. On signals of another kind the same knowledge
# misleads: both the autoencoder and PCA make pulses of steps, and the rows get worse. There, use
# the filter, which assumes almost nothing, unless there are clean rows of that kind to learn from.
