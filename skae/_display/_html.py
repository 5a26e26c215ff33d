"""HTML of a fitted network and its losses for notebooks, from plain facts."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import isfinite, log, log2

# Largest numbers of layers, of letters of a description and of points of a curve.
MAX_LAYERS, MAX_LETTERS, MAX_POINTS = 12, 90, 240
# Losses that differ by more than this factor are drawn on a logarithmic scale.
MANY_TIMES = 20.0
# For a light background: that of scikit-learn's fitted estimators is light in dark themes, too.
STYLE = """<style>
.skae-network { color: #10233c; font: 12px/1.5 monospace; padding: .6em .8em .2em;
  display: flex; flex-wrap: wrap; gap: .4em 1.6em; text-align: left; max-width: 56em; }
.skae-network > div { flex: 1 1 18em; min-width: 0; max-width: 26em; }
.skae-network svg { display: block; width: 100%; height: auto; overflow: visible; margin: .3em 0; }
.skae-network text { font: 11px monospace; fill: #10233c; }
.skae-network .skae-quiet { color: #52637a; fill: #52637a; }
.skae-network .skae-layers { margin: 0; padding: 0 0 0 2.2em; }
.skae-network .skae-layers li { margin: 0; overflow-wrap: anywhere; }
.skae-network .skae-notes span { white-space: nowrap; }
.skae-network .skae-key { display: inline-block; white-space: nowrap; margin-right: 1.2em; }
.skae-network .skae-key svg { display: inline-block; width: 18px; height: 8px; margin: 0 .4em 0 0; }
</style>"""
ENCODER, LATENTS, DECODER = "#5b8def", "#d9480f", "#8fb2f5"
TRAINING, VALIDATION, BEST = "#8a97a8", "#1d4fb8", "#d9480f"


@dataclass(frozen=True)
class Layer:
    """Description of a layer, and its number of outputs if it is known."""

    text: str
    width: int | None = None


@dataclass(frozen=True)
class NetworkFacts:
    """Facts about a network.

    Parameters
    ----------
    encoder, decoder : sequence of Layer
    n_inputs, n_latents : int
        Numbers that the encoder reads, and latents.
    n_parameters, n_members : int
        Parameters of all members together, and number of members.
    notes : sequence of str
    """

    encoder: Sequence[Layer]
    decoder: Sequence[Layer]
    n_inputs: int
    n_latents: int
    n_parameters: int
    n_members: int = 1
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class LossFacts:
    """Losses of the epochs 1, 2, ... and, in validation, of the start before them."""

    training: Sequence[float]
    validation: Sequence[float] | None
    best_epoch: int


def fitted_html(network: NetworkFacts, losses: LossFacts) -> str:
    """HTML of a network and its losses, side by side."""
    parts = [network_html(network), loss_html(losses)]
    columns = "".join(f"<div>{part}</div>" for part in parts if part)
    return f'{STYLE}<div class="skae-network">{columns}</div>'


def network_html(network: NetworkFacts) -> str:
    """Widths of the layers as a drawing, or layers by name where these are not known."""
    parts = [_hourglass(network) or _layer_lists(network)]
    notes = [_counted(network.n_parameters, "parameter"), *network.notes]
    if network.n_members > 1:
        notes.insert(0, f"{network.n_members} members")
    spans = " · ".join(f"<span>{escape(note)}</span>" for note in notes)
    parts.append(f'<div class="skae-notes">{spans}</div>')
    return "".join(parts)


def loss_html(losses: LossFacts) -> str:
    """Curves of both losses with the best epoch marked."""
    training = [(epoch, loss) for epoch, loss in enumerate(losses.training, 1) if isfinite(loss)]
    validation = [(i, loss) for i, loss in enumerate(losses.validation or ()) if isfinite(loss)]
    if not training:
        return ""
    best = next((point for point in validation if point[0] == losses.best_epoch), None)
    keys = [_key(TRAINING, f"training {training[-1][1]:.4g}")]
    if validation:
        keys.append(_key(VALIDATION, f"validation {validation[-1][1]:.4g}"))
    if best:
        name = "best" if best[1] <= min(loss for _, loss in validation) else "kept"
        keys.append(_key(BEST, f"{name} epoch {best[0]}: {best[1]:.4g}", is_dot=True))
    svg = _chart(_thinned(training), _thinned(validation), best)
    return f"{svg}<div>{''.join(keys)}</div>"


# The network.


def _hourglass(network: NetworkFacts) -> str:
    """A bar for each layer, its height the logarithm of the width; "" if widths are unknown."""
    sides = [*network.encoder, *network.decoder]
    is_known = network.encoder and network.decoder and all(layer.width for layer in sides)
    if not is_known or len(sides) > MAX_LAYERS:
        return ""
    widths = [network.n_inputs, *(layer.width or 0 for layer in sides)]
    middle = len(network.encoder)
    widths[middle] = network.n_latents
    step = 320 / len(widths)
    places = [step * (i + 0.5) for i in range(len(widths))]
    halves = [4 + 40 * log2(1 + width) / log2(1 + max(widths)) for width in widths]
    colours = [*middle * [ENCODER], LATENTS, *len(network.decoder) * [DECODER]]
    bars = list(zip(places, halves, colours, strict=True))
    parts = [
        f'<path d="M{x:.1f} {48 - half:.1f}L{to:.1f} {48 - to_half:.1f}V{48 + to_half:.1f}'
        f'L{x:.1f} {48 + half:.1f}Z" fill="{colour if i < middle else DECODER}" '
        'fill-opacity=".22"/>'
        for i, ((x, half, colour), (to, to_half, _)) in enumerate(pairwise(bars))
    ]
    parts += [
        f'<rect x="{x - 5:.1f}" y="{48 - half:.1f}" width="10" height="{2 * half:.1f}" rx="3" '
        f'fill="{colour}"/>'
        for x, half, colour in bars
    ]
    parts += [_label(x, 108, f"{width:,}") for x, width in zip(places, widths, strict=True)]
    parts += [
        _label(x, 123, text, is_quiet=True)
        for x, text in (
            (sum(places[:middle]) / middle, "encoder"),
            (places[middle], "latents"),
            (sum(places[middle + 1 :]) / len(network.decoder), "decoder"),
        )
    ]
    text = " to ".join(map(str, widths))
    return _svg(127, f"Widths of the layers: {text}", parts)


def _layer_lists(network: NetworkFacts) -> str:
    sides = {
        f"encoder of {_counted(network.n_inputs, 'number')}": network.encoder,
        f"decoder of {_counted(network.n_latents, 'latent')}": network.decoder,
    }
    return "".join(
        f'<div class="skae-quiet">{name}</div><ol class="skae-layers">{_items(layers)}</ol>'
        for name, layers in sides.items()
    )


def _items(layers: Sequence[Layer]) -> str:
    texts = [_short(layer.text) for layer in layers[:MAX_LAYERS]]
    if len(layers) > MAX_LAYERS:
        texts.append(f"… and {len(layers) - MAX_LAYERS} more")
    return "".join(f"<li>{escape(text)}</li>" for text in texts)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_LETTERS else text[: MAX_LETTERS - 1] + "…"


def _counted(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


# The losses.

Points = Sequence[tuple[int, float]]


def _chart(training: Points, validation: Points, best: tuple[int, float] | None) -> str:
    """Curves over epochs between their least and their largest loss."""
    losses = [loss for _, loss in [*training, *validation]]
    low, high = min(losses), max(losses)
    is_log = low > 0 and high / low > MANY_TIMES
    last = max(1, training[-1][0])

    def place(point: tuple[int, float]) -> tuple[float, float]:
        epoch, loss = point
        share = 0.5
        if high > low:
            share = (loss - low) / (high - low)
            share = log(loss / low) / log(high / low) if is_log else share
        return 62 + 254 * epoch / last, 88 - 78 * share

    parts = ['<path d="M62 4V94H316" fill="none" stroke="#52637a" stroke-opacity=".5"/>']
    for points, colour, width in ((training, TRAINING, 1.5), (validation, VALIDATION, 2)):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, points))
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}" '
            'stroke-linejoin="round"/>'
        )
        if len(points) == 1:  # a polyline of one point is invisible
            parts.append(_dot(*place(points[0]), 3, colour))
    if best:
        parts.append(_dot(*place(best), 4, BEST))
    marks = [(14, high), (92, low)] if high > low else [(92, low)]
    parts += [_label(56, y, f"{loss:.3g}", "end") for y, loss in marks]
    parts.append(_label(54, 53, "loss", "end", is_quiet=True))
    if is_log:
        parts.append(_label(54, 66, "(log)", "end", is_quiet=True))
    parts += [_label(62, 108, "0"), _label(316, 108, f"{last:,}", "end")]
    parts.append(_label(189, 108, "epochs", is_quiet=True))
    label = f"Loss from {losses[0]:.3g} to {training[-1][1]:.3g} in {last} epochs"
    return _svg(112, label, parts)


def _thinned(points: Points) -> Points:
    """Every n-th point, so that there are at most `MAX_POINTS`, and the last one."""
    step = max(1, -(-len(points) // MAX_POINTS))
    return [*points[:-1:step], *points[-1:]]


def _key(colour: str, text: str, is_dot: bool = False) -> str:
    mark = f'<path d="M0 4H18" stroke="{colour}" stroke-width="2.5"/>'
    mark = _dot(9, 4, 4, colour) if is_dot else mark
    return (
        f'<span class="skae-key"><svg viewBox="0 0 18 8" aria-hidden="true">{mark}</svg>'
        f"{escape(text)}</span>"
    )


# Pieces of drawings.


def _svg(height: int, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 320 {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _label(x: float, y: float, text: str, anchor: str = "middle", is_quiet: bool = False) -> str:
    quiet = ' class="skae-quiet"' if is_quiet else ""
    return f'<text{quiet} x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _dot(x: float, y: float, radius: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}" stroke="#fff"/>'
