"""Write gradient-boosted trees into a graph."""

import numpy as np

from skae._stats._density_ratio import MAX_LOG_RATIO

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3


def log_ratio(ratio, X):
    """``DensityRatio.log_ratio`` of float64 rows, of shape (n_rows,)."""
    from onnx import numpy_helper

    trees = ratio.trees_
    nodes, counts = trees.nodes_, trees.n_nodes_
    if nodes["is_categorical"].any():
        raise ValueError("refiner_ splits by levels. Fit with refine=False")
    tree_ids = np.repeat(np.arange(len(counts)), counts)
    node_ids = np.concatenate([np.arange(count) for count in counts])
    is_leaf = nodes["is_leaf"].astype(bool)
    thresholds = np.where(is_leaf, 0.0, nodes["num_threshold"])
    sums = X.take(np.flatnonzero(ratio.support_)[trees.order_], axis=1).op(
        "TreeEnsembleRegressor",
        dtype=np.float32,
        domain=ML_DOMAIN,
        n_targets=1,
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_featureids=np.where(is_leaf, 0, nodes["feature_idx"]).astype(int).tolist(),
        nodes_modes=np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_values_as_tensor=numpy_helper.from_array(thresholds),
        nodes_truenodeids=np.where(is_leaf, 0, nodes["left"]).astype(int).tolist(),
        nodes_falsenodeids=np.where(is_leaf, 0, nodes["right"]).astype(int).tolist(),
        nodes_missing_value_tracks_true=nodes["missing_go_to_left"].astype(int).tolist(),
        target_treeids=tree_ids[is_leaf].tolist(),
        target_nodeids=node_ids[is_leaf].tolist(),
        target_ids=[0] * int(is_leaf.sum()),
        target_weights_as_tensor=numpy_helper.from_array(nodes["value"][is_leaf]),
    )
    log_odds = sums.cast(np.float64).squeeze(1) + trees.baseline_
    return log_odds.between(-MAX_LOG_RATIO, MAX_LOG_RATIO) - ratio.log_mean_
