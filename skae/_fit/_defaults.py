"""What "auto" means: rules in the numbers of rows and columns, found by measurement.

`benchmarks/bench_latents.py` and `benchmarks/bench_outliers.py` print what they are worth.
"""

from math import ceil

# From this many columns on, networks are wider and take smaller steps, with weight decay.
MIN_WIDE_COLUMNS = 256
# Below this many rows, cross-validation stands in for one split.
MIN_ROWS_FOR_SPLIT = 1000
# From this many rows on, a tenth of them is not missed in training.
MANY_ROWS = 10_000
# Fewer rows get fresh noise several times an epoch.
MIN_ROWS_PER_EPOCH = 1000


class Compression:
    """Networks that reproduce rows as well as they can, moved by orthogonalised momentum."""

    # Share of the units of wide networks that are dropped, if held-out rows speak for it: of few
    # rows such networks memorise what PCA leaves out, and nothing else tried kept them from it.
    dropout_of_few_rows = 0.3

    @staticmethod
    def hidden_layer_sizes(n_features: int) -> tuple[int, ...]:
        """Widths of the encoder's hidden layers."""
        return (512, 128) if n_features >= MIN_WIDE_COLUMNS else (128, 64)

    @staticmethod
    def batch_size(n_rows: int) -> int:
        """Rows per step."""
        if n_rows < MIN_ROWS_FOR_SPLIT:
            return 96
        return 192 if n_rows < MANY_ROWS else 384 if n_rows < 50_000 else 512

    @staticmethod
    def max_epochs(n_rows: int, batch_size: int) -> int:
        """Passes over the rows: enough steps to learn, few enough not to memorise."""
        steps_per_epoch = ceil(n_rows / batch_size)
        if n_rows < MIN_ROWS_FOR_SPLIT:
            return ceil(min(300, max(50, 5 * n_rows)) / steps_per_epoch)
        # Sixty-four times the rows are worth twice the steps.
        return max(1, ceil(500 * (n_rows / 2000) ** (1 / 6) / steps_per_epoch))

    @staticmethod
    def effort(n_features: int, prospect: str) -> int:
        """Factor of the epochs: a code that PCA's latents do not hint at has to be found."""
        return 1 if n_features >= MIN_WIDE_COLUMNS or prospect == "nonlinear" else 2

    @staticmethod
    def learning_rate(n_features: int, n_rows: int) -> float:
        """Peak of the schedule."""
        if n_features >= MIN_WIDE_COLUMNS:
            return 1e-2 if n_rows >= MIN_ROWS_FOR_SPLIT else 1.5e-2
        return 2e-2

    @staticmethod
    def alpha(n_features: int, n_steps: int) -> float:
        """Decoupled weight penalty."""
        # The product of rate, penalty and steps is what matters: longer fits decay less.
        return min(0.3, 420 / n_steps) if n_features >= MIN_WIDE_COLUMNS else 0.0


class ClassicCompression(Compression):
    """Such networks where they differ from the default one and are trained by Adam."""

    @staticmethod
    def effort(n_features: int, prospect: str) -> int:
        """Factor of the epochs."""
        return 1

    @staticmethod
    def batch_size(n_rows: int) -> int:
        """Rows per step."""
        return 64 if n_rows < MIN_ROWS_FOR_SPLIT else 128

    @staticmethod
    def max_epochs(n_rows: int, batch_size: int) -> int:
        """Passes over the rows: enough steps to learn, few enough not to memorise."""
        steps_per_epoch = ceil(n_rows / batch_size)
        if n_rows < MIN_ROWS_FOR_SPLIT:
            return ceil(min(600, max(100, 10 * n_rows)) / steps_per_epoch)
        return max(12, ceil(1500 / steps_per_epoch))

    @staticmethod
    def learning_rate(n_features: int, n_rows: int) -> float:
        """Peak of the schedule."""
        return 4e-3 if n_features >= MIN_WIDE_COLUMNS else 1e-2


class Detection:
    """Networks that reproduce what is common and fail at what is not."""

    @staticmethod
    def n_components(n_features: int) -> int:
        """Latents: so few that an outlier cannot be copied."""
        return min(48, max(1, round(n_features**0.4)))

    @staticmethod
    def hidden_layer_sizes(n_features: int) -> tuple[int, ...]:
        """Widths of the encoder's hidden layers."""
        return (min(64, max(16, n_features)),)

    @staticmethod
    def batch_size(n_rows: int) -> int:
        """Rows per step."""
        return 128

    @staticmethod
    def max_epochs(n_rows: int, batch_size: int) -> int:
        """Passes over the core: longer training learns to copy the outliers in it."""
        return ceil(300 / ceil(n_rows / batch_size))

    @staticmethod
    def learning_rate(n_features: int, n_rows: int) -> float:
        """Peak of the schedule."""
        return 3e-3

    @staticmethod
    def alpha(n_features: int, n_steps: int) -> float:
        """Decoupled weight penalty."""
        return 0.0


class Cleaning:
    """Networks that predict what noisy and missing cells should have been."""

    # Mean standard deviation in those of columns, else the mean share of the cells.
    noise_levels = {"gaussian": 0.25, "masking": 0.3, "salt_and_pepper": 0.1, "swap": 0.15}

    @staticmethod
    def n_components(n_features: int) -> int:
        """Latents: noise keeps the network from copying, so narrow rows need no bottleneck."""
        return min(n_features, 512)

    @staticmethod
    def hidden_layer_sizes(n_features: int) -> tuple[int, ...]:
        """Widths of the encoder's hidden layers."""
        return (512,) if n_features >= MIN_WIDE_COLUMNS else (128,)

    @staticmethod
    def batch_size(n_rows: int) -> int:
        """Rows per step."""
        return 64 if n_rows < MIN_ROWS_FOR_SPLIT else 256

    @staticmethod
    def max_epochs(n_rows: int, batch_size: int) -> int:
        """Passes over the rows."""
        steps_per_epoch = ceil(max(n_rows, MIN_ROWS_PER_EPOCH) / batch_size)
        n_steps = 600 if n_rows < MIN_ROWS_FOR_SPLIT else 1000
        return max(12, ceil(n_steps / steps_per_epoch))

    @staticmethod
    def learning_rate(n_features: int, n_rows: int) -> float:
        """Peak of the schedule."""
        return 2e-3

    @staticmethod
    def alpha(n_features: int, n_steps: int) -> float:
        """Decoupled weight penalty."""
        return 0.1


class Filling(Cleaning):
    """Networks that predict missing cells and leave all others alone."""

    @staticmethod
    def learning_rate(n_features: int, n_rows: int) -> float:
        """Peak of the schedule."""
        return 2e-3 if n_features >= MIN_WIDE_COLUMNS else 1e-2


class TableFilling(Filling):
    """Such networks on mixed tables, where longer training lowers errors by a few thousandths."""

    @staticmethod
    def batch_size(n_rows: int) -> int:
        """Rows per step."""
        if n_rows < MIN_ROWS_FOR_SPLIT:
            return 64
        return 128 if n_rows < 4 * MIN_ROWS_FOR_SPLIT else 256

    @staticmethod
    def max_epochs(n_rows: int, batch_size: int) -> int:
        """Passes over the rows."""
        steps_per_epoch = ceil(max(n_rows, MIN_ROWS_PER_EPOCH) / batch_size)
        return max(12, ceil((300 if n_rows < MIN_ROWS_FOR_SPLIT else 500) / steps_per_epoch))


class Generation:
    """Networks that model the distribution of rows."""

    @staticmethod
    def n_components(n_directions: int) -> int:
        """Latents, for rows that vary in `n_directions` directions."""
        return min(n_directions, 16 if n_directions < MIN_WIDE_COLUMNS else 20)

    @staticmethod
    def n_mixture_components(n_rows: int) -> int:
        """Normal distributions that the prior is made of."""
        return min(60, max(3, n_rows // 30))

    @staticmethod
    def hidden_layer_sizes(n_features: int) -> tuple[int, ...]:
        """Widths of the encoder's hidden layers."""
        return (512, 512) if n_features >= MIN_WIDE_COLUMNS else (128, 128)

    @staticmethod
    def batch_size(n_rows: int) -> int:
        """Rows per step."""
        return 256

    @staticmethod
    def max_epochs(n_rows: int, batch_size: int) -> int:
        """Passes over the rows: longer ones memorise small tables."""
        steps_per_epoch = ceil(n_rows / batch_size)
        n_steps = 300 if n_rows < MIN_ROWS_FOR_SPLIT else 700
        return max(20, ceil(n_steps / steps_per_epoch))

    @staticmethod
    def learning_rate(n_features: int, n_rows: int) -> float:
        """Peak of the schedule."""
        if n_features >= MIN_WIDE_COLUMNS:
            return 3e-3
        return 3e-3 if n_rows < MIN_ROWS_FOR_SPLIT else 1e-2

    @staticmethod
    def alpha(n_features: int, n_steps: int) -> float:
        """Decoupled weight penalty."""
        return 0.0


class TableGeneration(Generation):
    """Such networks on narrow tables of many rows, moved by orthogonalised momentum."""

    @staticmethod
    def max_epochs(n_rows: int, batch_size: int) -> int:
        """Passes over the rows."""
        return max(20, ceil(400 / ceil(n_rows / batch_size)))
