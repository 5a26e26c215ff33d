"""Draw the README's picture, ``docs/overview.png``: what each estimator does, on bundled data.

python docs/draw_overview.py
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

from pictures import INKS, PICTURES  # noqa: E402

# The landing page's pictures, in the README's order.
TITLES = {
    "compress": "AutoencoderTransformer: 8 numbers per digit",
    "clean": "DenoisingAutoencoder: noise removed",
    "draw": "VAEGenerator: real and drawn rows",
    "explain": "AutoencoderOutlierDetector: why row 7 is an outlier",
}


def draw(path):
    """Write the picture; repository pages may be dark, so its background is white."""
    figure = Figure(figsize=(10.4, 6.2), layout="constrained", facecolor="white")
    panels = figure.subfigures(2, 2, wspace=0.05, hspace=0.06).flat
    for panel, (name, title) in zip(panels, TITLES.items(), strict=True):
        compute, show = PICTURES[name]
        show(panel, compute(), INKS["light"])
        panel.suptitle(title, color=INKS["light"][0], fontsize=13)
    # Without the version of Matplotlib, the same drawing is the same file.
    figure.savefig(path, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    draw(HERE / "overview.png")
