"""The order of the gallery: by what one wants to do."""

from pathlib import Path

TASKS = [
    *("compress", "knn", "pca", "latent", "convol", "sparse", "network", "callback"),
    *("denois", "imput", "missing", "fill", "noise"),
    *("outlier", "heartbeat", "threshold", "explain", "correct"),
    *("generat", "draw", "sampl", "interpol"),
    *("compar", "pipeline", "search", "save", "persist", "onnx"),
]


class ByTask:
    """Sorts file names by the first task that they name; others come last.

    Parameters
    ----------
    src_dir : str
    """

    def __init__(self, src_dir):
        self.src_dir = src_dir

    def __call__(self, filename):
        stem = Path(filename).stem
        hits = [i for i, task in enumerate(TASKS) if task in stem]
        return (min(hits, default=len(TASKS)), stem)

    def __repr__(self):
        return "<ByTask>"
