"""Display classes for fitted estimators, like those of scikit-learn."""

from skae.plotting._contributions import ContributionDisplay
from skae.plotting._latent_size import LatentSizeDisplay
from skae.plotting._latent_space import LatentSpaceDisplay
from skae.plotting._loss_curve import LossCurveDisplay
from skae.plotting._outlier_scores import OutlierScoreDisplay
from skae.plotting._reconstructions import ReconstructionDisplay
from skae.plotting._samples import SampleGridDisplay

__all__ = [
    "ContributionDisplay",
    "LatentSizeDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "OutlierScoreDisplay",
    "ReconstructionDisplay",
    "SampleGridDisplay",
]
