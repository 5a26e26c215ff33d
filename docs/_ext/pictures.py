"""The landing page's pictures, drawn at build by default fits on small data sets.

Each is drawn twice, for light and for dark pages; none is drawn again while it is newer than
this script.
"""

from pathlib import Path

import numpy as np

# Ink and two accents, on light and on dark pages.
INKS = {"light": ("#1f2933", "#0b6e99", "#d1495b"), "dark": ("#e4e7eb", "#5bc0eb", "#ff8a80")}
WIDTH, HEIGHT = 5.2, 2.7  # inches, all alike so that cards line up


def digits():
    """Rows to train on, others to show, and their pixels from 0 to 1."""
    from sklearn.datasets import load_digits

    X = load_digits().data / 16
    return X[:1400], X[1400:]


def compress():
    """Digits, from eight principal components, from eight latents."""
    from sklearn.decomposition import PCA

    from skae import AutoencoderTransformer

    train, test = digits()
    pca = PCA(8).fit(train)
    autoencoder = AutoencoderTransformer(8, random_state=0).fit(train)
    shown = test[:7]
    by_pca = pca.inverse_transform(pca.transform(shown))
    return {"original": shown, "PCA, 8": by_pca, "skae, 8": autoencoder.reconstruct(shown)}


def clean():
    """Noisy digits, and cleaned ones."""
    from skae import DenoisingAutoencoder

    train, test = digits()
    shown = test[10:17]
    noisy = shown + 0.3 * np.random.default_rng(0).normal(size=shown.shape)
    cleaner = DenoisingAutoencoder(
        noise="gaussian", noise_level=0.3, scaling=None, random_state=0
    ).fit(train)
    return {"noisy": noisy, "cleaned": cleaner.transform(noisy), "original": shown}


def draw():
    """Two columns of real and of drawn rows."""
    from sklearn.datasets import load_breast_cancer

    from skae import VAEGenerator

    frame = load_breast_cancer(as_frame=True).frame
    new = VAEGenerator(random_state=0).fit(frame).sample(len(frame), random_state=0)
    columns = ["mean area", "mean concavity"]
    return {"real": frame[columns], "drawn": new[columns]}


def explain():
    """The largest contributions to the score of a row with a slip of the decimal point."""
    from sklearn.datasets import load_wine

    from skae import AutoencoderOutlierDetector

    X = load_wine(as_frame=True).data
    X.loc[7, "flavanoids"] *= 10
    detector = AutoencoderOutlierDetector(contamination=0.05, random_state=0).fit(X)
    return detector.explain(X).loc[7].nlargest(5)


def show_digits(figure, images, ink):
    """A line of digits for each entry."""
    axes = figure.subplots(len(images), 1)
    for ax, (name, rows) in zip(axes, images.items(), strict=True):
        strip = np.hstack([np.pad(row.reshape(8, 8), 1) for row in rows])
        ax.imshow(np.clip(strip, 0, 1), cmap="gray_r" if ink == INKS["light"] else "gray")
        ax.set_ylabel(name, rotation=0, ha="right", va="center", color=ink[0], fontsize=13)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)


def show_rows(figure, tables, ink):
    """Real and drawn rows, side by side on the same scale."""
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for ax, (name, table), colour in zip(axes, tables.items(), ink[1:], strict=True):
        ax.scatter(*table.to_numpy().T, s=6, color=colour, alpha=0.7, linewidths=0)
        ax.set_title(name, color=ink[0], fontsize=12)
        ax.set_xlabel(table.columns[0], color=ink[0])
        style(ax, ink)
    axes[0].set_ylabel(tables["real"].columns[1], color=ink[0])


def show_bars(figure, contributions, ink):
    """Bars, the largest on top and in the accent."""
    ax = figure.subplots()
    colours = [ink[2], *[ink[1]] * (len(contributions) - 1)]
    names = [name.replace("_", " ").split("/")[0] for name in contributions.index]
    ax.barh(names, contributions, color=colours)
    ax.invert_yaxis()
    ax.set_xlabel("contribution to the score of row 7", color=ink[0])
    style(ax, ink)


def style(ax, ink):
    """Axes in the page's ink, without a box."""
    ax.set_facecolor("none")
    ax.tick_params(colors=ink[0], labelsize=9)
    ax.spines[:].set_color(ink[0])
    ax.spines[["top", "right"]].set_visible(False)


PICTURES = {
    "compress": (compress, show_digits),
    "clean": (clean, show_digits),
    "draw": (draw, show_rows),
    "explain": (explain, show_bars),
}


def write_pictures(app):
    """Draw what is not there, or older than this script."""
    from matplotlib.figure import Figure

    folder = Path(app.srcdir) / "generated" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    mine = Path(__file__).stat().st_mtime
    for name, (compute, show) in PICTURES.items():
        paths = {theme: folder / f"{name}-{theme}.svg" for theme in INKS}
        if all(path.exists() and path.stat().st_mtime > mine for path in paths.values()):
            continue
        content = compute()
        for theme, path in paths.items():
            figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
            show(figure, content, INKS[theme])
            figure.savefig(path, transparent=True, metadata={"Date": None})


def setup(app):
    """Pictures are there before pages are read."""
    app.connect("builder-inited", write_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
