"""What "auto" means: rules in the numbers of rows and columns, found by measurement.

`benchmarks/bench_latents.py` prints what they are worth.
"""

# From this many columns on, networks are wider and walk in smaller, decaying steps.
MIN_WIDE_COLUMNS = 256
# Below this many rows, cross-validation stands in for one split.
MIN_ROWS_FOR_SPLIT = 1000


def hidden_layer_sizes(n_features):
    """Widths of the encoder's hidden layers."""
    return (512, 128) if n_features >= MIN_WIDE_COLUMNS else (128, 64)


def batch_size(n_rows):
    """Rows per step."""
    return 64 if n_rows < MIN_ROWS_FOR_SPLIT else 128


def max_epochs(n_rows, batch_size):
    """Passes over the rows: enough steps to learn, few enough not to memorise."""
    steps_per_epoch = -(-n_rows // batch_size)
    if n_rows < MIN_ROWS_FOR_SPLIT:
        return -(-min(600, max(100, 10 * n_rows)) // steps_per_epoch)
    return max(12, -(-1500 // steps_per_epoch))


def learning_rate(n_features):
    """Peak of the schedule."""
    return 4e-3 if n_features >= MIN_WIDE_COLUMNS else 1e-2


def alpha(n_features, n_steps):
    """Decoupled weight penalty."""
    # The product of rate, penalty and steps is what matters: longer fits decay less.
    return min(0.3, 420 / n_steps) if n_features >= MIN_WIDE_COLUMNS else 0.0
