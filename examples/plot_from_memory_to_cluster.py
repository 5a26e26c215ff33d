"""
========================
From memory to a cluster
========================

The same estimator is fitted to the same rows in three ways: to an array in memory, to a folder of
Parquet files, and by two processes of a Dask cluster, each of which reads its part of the files. Do
we get the same model?

As much as with another seed. The three are not equal bit for bit, because rows come in another
order. Errors of single new rows differ as they do between two seeds, and means of errors by a few
per cent. Only the line with ``fit`` changes. So start in memory, go on to files when rows no longer
fit into it, and to a cluster when one process takes too long.
"""  # noqa: D400

# %%
# Rows
# ----
# Columns depend on six hidden variables, in a nonlinear way. Files of up to 128 MiB would be read
# at once, with the same model bit for bit; these rows take more.

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.decomposition import PCA

from skae import AutoencoderTransformer

N_ROWS, N_FEATURES, N_HIDDEN, N_FILES = 540_000, 64, 6, 4

rng = np.random.default_rng(0)
directions = rng.standard_normal((N_HIDDEN, N_FEATURES), dtype=np.float32)


def make_rows(n_rows):
    rows = np.tanh(rng.standard_normal((n_rows, N_HIDDEN), dtype=np.float32) @ directions)
    rows += 0.1 * rng.standard_normal(rows.shape, dtype=np.float32)
    return pd.DataFrame(rows, columns=[f"x{i}" for i in range(N_FEATURES)])


X, X_test = make_rows(N_ROWS), make_rows(3000)
estimator = AutoencoderTransformer(
    N_HIDDEN, hidden_layer_sizes=64, batch_size=2048, max_epochs=2, random_state=0
)
needed = {name: find_spec(name) is not None for name in ("pyarrow", "dask", "distributed")}
if not all(needed.values()):
    print("Only the fit in memory is shown: pyarrow, dask or distributed is not installed.")

# %%
# In memory
# ---------
# A second fit, with another seed, shows which differences are usual.

models = {
    "in memory": clone(estimator).fit(X),
    "another seed": clone(estimator).set_params(random_state=1).fit(X),
}

# %%
# From Parquet files
# ------------------
# :func:`skae.io.open_table` reads nothing but the footers of the files. ``fit`` then reads them
# piece by piece, in an order that mixes them; never is more than a part of the rows in memory.

folder = TemporaryDirectory()
if all(needed.values()):
    import skae.io

    size = N_ROWS // N_FILES
    for number in range(N_FILES):
        part = X[number * size : (number + 1) * size]
        part.to_parquet(Path(folder.name) / f"{number}.parquet", row_group_size=size // 4)

    models["Parquet"] = clone(estimator).fit(skae.io.open_table(folder.name))

# %%
# By a cluster
# ------------
# Here, its two workers are processes of this machine; elsewhere, it is
# ``Client("tcp://scheduler:8786")``. ``Client()`` starts workers that run the script anew, up to
# ``if __name__ == "__main__":``. This page has no such line, so a ``SubprocessCluster`` starts
# them, whose workers do not run it. Each worker reads its part of the files and keeps it. What
# comes back is a plain estimator. Results of a collection are lazy: here, the mean of all latents
# is all that leaves the workers.

if all(needed.values()):
    import dask.dataframe as dd
    from distributed import Client
    from distributed.deploy.subprocess import SubprocessCluster

    import skae.dask

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with SubprocessCluster(**options) as cluster, Client(cluster) as client:
        client.wait_for_workers(2)  # or the first would get all files
        rows = dd.read_parquet(folder.name)
        models["cluster"] = skae.dask.fit(estimator, rows, client)
        latents = skae.dask.apply(models["cluster"], "transform", rows)
        print(latents.mean().compute().round(2))

folder.cleanup()

# %%
# Errors on new rows
# ------------------
# Each point is a new row. On the diagonal, two models reconstruct it equally well. The first panel
# shows what another seed does: points scatter about the diagonal. Those of the files and of the
# cluster scatter as widely, and means of all rows differ by a few per cent. Points of PCA lie far
# above: it is another model, with three times the error.

errors = {name: model.reconstruction_error(X_test) for name, model in models.items()}
pca = PCA(N_HIDDEN).fit(X)
errors["PCA"] = np.square(X_test - pca.inverse_transform(pca.transform(X_test))).mean(axis=1)
for name, error in errors.items():
    print(f"{name:12}  mean squared error {error.mean():.4f}")

in_memory = errors.pop("in memory")
limits = 0.9 * in_memory.min(), 1.1 * max(error.max() for error in errors.values())
figure, axes = plt.subplots(
    *(1, len(errors)), figsize=(2.7 * len(errors), 3.2), sharey=True, layout="constrained"
)
for ax, (name, error) in zip(np.atleast_1d(axes), errors.items(), strict=True):
    ax.loglog(in_memory, error, ".", markersize=2, color="tab:gray" if name == "PCA" else None)
    ax.plot(limits, limits, color="black", linewidth=0.8)
    ax.set(title=name, xlabel="error of the fit in memory", xlim=limits, ylim=limits, aspect=1)
np.atleast_1d(axes)[0].set_ylabel("error of the other")
plt.show()
