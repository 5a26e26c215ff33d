"""Display of losses by epoch."""

import numpy as np

from skae.plotting._common import (
    BLUE,
    GREY,
    ORANGE,
    as_numbers,
    check_integer,
    fitted,
    line_style,
    open_axes,
    quiet_spines,
    require_matplotlib,
)

# Losses that span more than this factor are drawn on a logarithmic axis.
LOG_FROM = 20


class LossCurveDisplay:
    """Training and validation loss by epoch, with the epoch whose weights were kept.

    Use :meth:`from_estimator` to make one. All parameters are stored as attributes.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Training loss of epochs 1, 2, ..., each the mean over its batches.
    validation_loss_curve : array-like of shape (n_epochs + 1,), default=None
        Loss on held-out rows at the start, which is epoch 0, and after each epoch.
    best_epoch : int, default=None
        Epoch whose weights were kept; 0 is the start.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure with the axes.
    training_line_ : matplotlib Line2D
        Curve of the training loss.
    validation_line_ : matplotlib Line2D or None
        Curve of the validation loss, if there is one.
    best_point_ : matplotlib Line2D or None
        Mark at the best epoch, if it is known.

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Scores by the number of training rows.

    Notes
    -----
    The two losses are not measured alike: the training loss may hold noise and
    penalties, and comes from weights that change during the epoch. Losses above zero that
    span a factor of 20 or more are drawn on a logarithmic axis.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import LossCurveDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_epochs=5, n_iter_no_change=5, random_state=0)
    >>> autoencoder = autoencoder.fit(X)  # n_iter_no_change makes sure that rows are held out
    >>> display = LossCurveDisplay.from_estimator(autoencoder)
    >>> display.validation_line_.get_xdata().tolist()
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, loss_curve, validation_loss_curve=None, best_epoch=None):
        self.loss_curve = loss_curve
        self.validation_loss_curve = validation_loss_curve
        self.best_epoch = best_epoch

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, name=None, **kwargs):
        """Draw the loss curves of a fitted estimator.

        Parameters
        ----------
        estimator : object
            A fitted estimator of skae, or any with an attribute ``loss_curve_``.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        name : str, default=None
            What the legend calls the estimator; None leaves it out.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.plot`` for both curves.

        Returns
        -------
        display : LossCurveDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no loss curve.
        ValueError
            If its fit ended at the start without an epoch.
        """
        require_matplotlib(cls)
        have_it = "an estimator of skae, or another with loss_curve_"
        loss_curve = fitted(estimator, "loss_curve_", "attribute", have_it=have_it)
        if len(loss_curve) == 0:
            raise ValueError(
                f"{type(estimator).__name__} was fitted without training (best_epoch_=0): there is "
                "no loss curve to draw."
            )
        held_out = getattr(estimator, "validation_loss_curve_", None)
        # Without held-out rows the weights are those of the last epoch.
        best_epoch = None if held_out is None else getattr(estimator, "best_epoch_", None)
        return cls(loss_curve, held_out, best_epoch).plot(ax=ax, name=name, **kwargs)

    def plot(self, *, ax=None, name=None, **kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        name : str, default=None
            What the legend calls the estimator; None leaves it out.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.plot`` for both curves.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.

        Raises
        ------
        TypeError, ValueError
            If the curves do not fit together, or `best_epoch` is none of their epochs.
        """
        training, held_out = self._checked()
        ax = open_axes(self, ax, (5.6, 3.6))
        prefix = "" if name is None else f"{name}, "
        epochs = np.arange(1, len(training) + 1)
        style = {"color": GREY, "linestyle": "--"} if held_out is not None else {"color": BLUE}
        # A line of one point is invisible.
        style |= {"marker": "." if len(epochs) == 1 else "", "label": f"{prefix}training"}
        (self.training_line_,) = ax.plot(epochs, training, **line_style(style, kwargs))
        self.validation_line_ = self.best_point_ = None
        if held_out is not None:
            style = {"color": BLUE, "linewidth": 2, "label": f"{prefix}validation"}
            style = line_style(style, kwargs)
            (self.validation_line_,) = ax.plot(np.arange(len(held_out)), held_out, **style)
        if self.best_epoch is not None:
            loss = training[self.best_epoch - 1] if held_out is None else held_out[self.best_epoch]
            label = f"{prefix}best epoch: {self.best_epoch}"
            style = {"marker": "o", "markersize": 7, "linestyle": "none", "zorder": 3}
            style |= {"color": line_style({"color": ORANGE}, kwargs)["color"], "label": label}
            (self.best_point_,) = ax.plot([self.best_epoch], [loss], **style)
        self._finish(ax, training if held_out is None else np.append(training, held_out))
        return self

    def _finish(self, ax, drawn):
        from matplotlib.ticker import MaxNLocator

        if drawn.min() > 0 and drawn.max() > LOG_FROM * drawn.min():
            ax.set_yscale("log")
        ax.set(xlabel="Epoch", ylabel="Loss")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        quiet_spines(ax)
        ax.legend(frameon=False, fontsize="small")

    def _checked(self):
        training = as_numbers("loss_curve", self.loss_curve, 1)
        held_out = self.validation_loss_curve
        if held_out is not None:
            held_out = as_numbers("validation_loss_curve", held_out, 1)
            if len(held_out) != len(training) + 1:
                raise ValueError(
                    f"validation_loss_curve has {len(held_out)} entries; it must have one for the "
                    f"start and one for each of the {len(training)} epochs of loss_curve."
                )
        if self.best_epoch is not None:
            first = 1 if held_out is None else 0
            check_integer("best_epoch", self.best_epoch, first, len(training))
        return training, held_out
