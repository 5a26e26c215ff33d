"""Fit an estimator by several processes, each of which holds a part of the rows."""

from sklearn.base import clone

from skae._data._tables import as_table
from skae._engine._group import checked_sync_every, launched_group
from skae._sklearn import num_samples
from skae.estimators._sharded_fit import Shard, fit_shards

__all__ = ["fit"]


def fit(estimator, shard, sample_weight=None, sync_every=1):
    """Fit an estimator to the rows of all processes of a group.

    Each process of the group calls this with its own rows, which stay where they are. The group is
    that of ``torch.distributed``, which may be initialised or is set up (with gloo) as the launcher
    says: ``torchrun``, Ray Train and Spark's ``TorchDistributor`` do.

    Parameters
    ----------
    estimator : estimator of skae
        Not changed; that of the first process counts. `batch_size` and `max_epochs` mean all
        processes together.
    shard : {array-like, sparse matrix} of shape (n_own, n_features), table on disk or None
        The rows of this process, any number of them, of the same columns as those of the others.
        Memory maps are read batch by batch, and tables on disk in blocks, whatever their columns
        hold. None means no rows.
    sample_weight : array-like of shape (n_own,), default=None
        Their weights; given on all processes that have rows or on none.
    sync_every : int, default=1
        With 1, the gradients of each step are added up, so that the fit is that of one process
        with all rows. With more, each process takes so many steps of its own before the weights are
        averaged (local SGD [1]_): for slow networks, at some cost in error.

    Returns
    -------
    model : estimator
        A fitted copy, the same on all processes.

    Raises
    ------
    TypeError
        If the estimator is not one of skae.
    ValueError
        If rows or parameters of any process are not what they must be, or if rows differ in their
        columns or in what these hold; all processes raise it.

    Notes
    -----
    The processes read the same samples of the table, wherever its rows lie: principal components,
    quantiles and the like are those of a fit by one process. Moments, gradients and losses are
    summed. Which rows are in a batch depends on `random_state` and on the shards: each batch takes
    its share of every shard. Noise is drawn by each process for its own rows.

    Levels, dates and gaps are those of all rows: each process looks for rows of its own that tell
    of them, in one pass over a table on disk, and the processes learn the columns from all of
    these. Columns of levels may have 4096 of them on disk.

    Below 10 000 rows in all, the first process fits the estimator to all of them.

    References
    ----------
    .. [1] S. U. Stich, "Local SGD converges fast and communicates little", ICLR 2019.

    Examples
    --------
    A script ``train.py``, started by ``torchrun --nproc-per-node=4 train.py``::

        rank = int(os.environ["RANK"])
        shard = np.load(f"rows-{rank}.npy", mmap_mode="r")
        model = skae.distributed.fit(AutoencoderTransformer(8, random_state=0), shard)
        if rank == 0:
            skae.save(model, "model.skae")

    A process that no launcher has told of others is alone:

    >>> import skae.distributed
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> estimator = skae.AutoencoderTransformer(8, max_epochs=2, random_state=0)
    >>> skae.distributed.fit(estimator, X).transform(X).shape
    (1797, 8)
    """
    with launched_group(checked_sync_every(sync_every)) as group:
        if group.size == 1:
            return clone(estimator).fit(shard, sample_weight=sample_weight)

        def read():
            n_rows = 0 if shard is None else num_samples(as_table(shard))
            return Shard(shard, sample_weight, {group.rank: n_rows})

        return fit_shards(estimator, read, group)
