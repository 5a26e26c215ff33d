"""
================================
More rows than fit into memory
================================

Does a table have to fit into memory? This example writes 600 MiB of rows to a temporary folder,
piece by piece, and trains on them in two ways: ``fit`` on a :class:`numpy.memmap`, and
``partial_fit`` on one piece after the other. It measures the peak memory of both.

No: ``fit`` took about half of the size of the table, ``partial_fit`` about a sixth. Here both end
with about the same error. If rows can be read more than once, use ``fit``: it shuffles all rows,
follows a learning rate schedule and validates on held-out rows.
"""  # noqa: D400

# %%
# A large file
# ------------
# Rows of 1024 columns that depend on eight hidden variables, in a nonlinear way that PCA cannot
# follow. Up to 512 MiB, ``fit`` keeps the rows in memory anyway, because that is faster; this table
# is larger.

from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer

N_ROWS, N_PIECE, N_FEATURES, N_HIDDEN = 153_600, 3840, 1024, 8
MIB = 2**20

rng = np.random.default_rng(0)
directions = rng.standard_normal((N_HIDDEN, N_FEATURES), dtype=np.float32)


def make_rows(n_rows):
    hidden = rng.standard_normal((n_rows, N_HIDDEN), dtype=np.float32)
    rows = np.maximum(hidden @ directions, 0)
    rows += rng.random(rows.shape, dtype=np.float32)
    return rows


folder = TemporaryDirectory()
path = Path(folder.name) / "rows.float32"
X = np.memmap(path, np.float32, "w+", shape=(N_ROWS, N_FEATURES))
for start in range(0, N_ROWS, N_PIECE):
    X[start : start + N_PIECE] = make_rows(N_PIECE)
X.flush()
X = np.memmap(path, np.float32, "r", shape=(N_ROWS, N_FEATURES))
X_test = make_rows(2000)
print(f"The file has {X.nbytes / MIB:.0f} MiB, a piece of it {X[:N_PIECE].nbytes / MIB:.0f} MiB.")

# %%
# How memory is measured
# ----------------------
# Linux records the peak resident memory of a process (``VmHWM``), including mapped pages of files,
# and resets it on request. We report by how much it exceeds the memory before the call. On other
# systems this example trains, but cannot measure.

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Highest memory in the block above that at its start, in MiB."""

    def __enter__(self):
        if RESET.exists():
            RESET.write_text("5")
        self.before = self.read("VmRSS")
        return self

    def __exit__(self, *exception):
        self.mib = self.read("VmHWM") - self.before

    def read(self, field):
        if not STATUS.exists():
            return np.nan
        return int(STATUS.read_text().split(field + ":")[1].split()[0]) / 1024


# %%
# Two ways to train
# -----------------
# One pass over the rows with each. The first fit of a process loads libraries, so a small one is
# done first. The first call of ``partial_fit`` determines the scaling and the start, so its piece
# has to be a representative sample of the rows.

parameters = {"hidden_layer_sizes": 64, "batch_size": 512, "max_epochs": 1, "random_state": 0}
AutoencoderTransformer(N_HIDDEN, **parameters).fit(X_test).partial_fit(X_test)

pieces = AutoencoderTransformer(N_HIDDEN, **parameters)
with PeakMemory() as of_pieces:
    for start in range(0, N_ROWS, N_PIECE):
        pieces.partial_fit(X[start : start + N_PIECE])

whole = AutoencoderTransformer(N_HIDDEN, **parameters)
with PeakMemory() as of_whole:
    whole.fit(X)

print("Peak memory above that before the call, in MiB:")
print(f"  fit on the memory map     {of_whole.mib:6.0f}")
print(f"  partial_fit, piecewise    {of_pieces.mib:6.0f}")

pca = PCA(N_HIDDEN, random_state=0).fit(X[:N_PIECE])
print("Mean squared error on new rows:")
print(f"  fit on the memory map     {whole.reconstruction_error(X_test).mean():.4f}")
print(f"  partial_fit, piecewise    {pieces.reconstruction_error(X_test).mean():.4f}")
linear = np.square(X_test - pca.inverse_transform(pca.transform(X_test))).mean()
print(f"  PCA of one piece          {linear:.4f}")

# %%
# Memory as a plot
# ----------------
# ``fit`` keeps in memory the rows on which it chooses the best epoch (a tenth) and, for the start
# at PCA, a sample of 16 384 rows. The rows it trains on are read batch by batch.

bars = {
    "the table": X.nbytes / MIB,
    "fit on the memory map": of_whole.mib,
    "partial_fit, piecewise": of_pieces.mib,
}
figure, ax = plt.subplots(figsize=(6.5, 2.2), layout="constrained")
drawn = ax.barh(list(bars), list(bars.values()), color=["tab:gray", "tab:blue", "tab:blue"])
ax.bar_label(drawn, fmt="%.0f", padding=4)
ax.margins(x=0.1)
ax.invert_yaxis()
ax.set_xlabel("MiB")
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# The file is no longer needed.

del X
folder.cleanup()
