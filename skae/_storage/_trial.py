"""A row that goes through an estimator that was read, before anybody else's does."""

import numpy as np

from skae._data._tables import as_table

# Draws of latents; the parameter of the estimator may ask for any number.
N_DRAWS = 2


def try_out(estimator):
    """Raise an error unless rows come through all that is fitted, with finite results."""
    trial = TRIALS.get(type(estimator).__name__, _trial_of_rows)
    with np.errstate(all="ignore"):
        results = trial(estimator)
    for name, result in results.items():
        if not np.isfinite(result).all():
            raise ValueError(f"it gives {name} that are not finite")


def _trial_of_rows(estimator):
    rows = estimator._scaler.mean_[None]
    latents = estimator._encode(rows)
    return {
        "latents": latents,
        "reconstructions": estimator._reconstruct(rows),
        "rows": estimator._decode(latents),
    }


def _with_gap(estimator):
    """The mean row, with and without a missing cell."""
    rows = np.repeat(estimator._scaler.mean_[None], 2, axis=0)
    rows[1, 0] = np.nan
    return rows


def _trial_of_denoiser(estimator):
    return _trial_of_rows(estimator) | {
        "clean rows": estimator._denoise(_with_gap(estimator), np.random.default_rng(0))
    }


def _trial_of_detector(estimator):
    rows = _with_gap(estimator)
    pieces = estimator.net_.cell_losses(estimator._rows(rows))
    return _trial_of_rows(estimator) | {
        "scores": estimator._scores(rows),
        "p-values": estimator._of_raw_losses(estimator._pvalues, rows),
        "contributions": np.concatenate([estimator._contributions(*rest) for _, *rest in pieces]),
    }


def _trial_of_generator(estimator):
    latents = np.zeros((1, estimator.net_.n_latents))
    codes = estimator._codes_to_draw(1, None, np.random.RandomState(0))
    rows = estimator._with_targets(np.nan_to_num(estimator._decode(latents)))
    density = estimator._joint_log_density if estimator.conditional else estimator._evidence
    drawn = estimator.sample(1, random_state=0)
    if estimator._columns.is_frame:
        estimator._columns.to_numbers(as_table(drawn))
    return {
        "latents": estimator._encode(rows),
        "reconstructions": np.nan_to_num(estimator._reconstruct(rows), posinf=np.inf),
        "densities": density(rows, N_DRAWS),
        "targets": np.nan_to_num(codes, posinf=np.inf),
    }


TRIALS = {
    "AutoencoderOutlierDetector": _trial_of_detector,
    "DenoisingAutoencoder": _trial_of_denoiser,
    "VAEGenerator": _trial_of_generator,
}
