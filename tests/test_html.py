import configparser
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from torch import nn

import skae
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._display._html import (
    MAX_LAYERS,
    MAX_POINTS,
    Layer,
    LossFacts,
    NetworkFacts,
    loss_html,
    network_html,
)
from skae._display._network_facts import describe
from skae._version import DOCUMENTATION
from skae.networks import ConvNetwork

ESTIMATORS = [
    AutoencoderTransformer(2, hidden_layer_sizes=(7, 5), max_epochs=2, random_state=0),
    AutoencoderOutlierDetector(n_components=2, hidden_layer_sizes=7, max_epochs=2, random_state=0),
    DenoisingAutoencoder(2, hidden_layer_sizes=(7, 5), max_epochs=2, random_state=0),
    VAEGenerator(2, hidden_layer_sizes=(7, 5), max_epochs=2, random_state=0),
]
SCRIPT = "<script>alert(1)</script>"
# Where scikit-learn's diagrams have a place for more.
has_place = hasattr(BaseEstimator, "_get_params_html")


class Balance(HTMLParser):
    """Raises unless every element that is opened is closed."""

    VOID = ("input", "br", "meta", "link", "path", "rect", "circle", "polyline")

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def assert_balanced(html):
    parser = Balance()
    parser.feed(html)
    assert not parser.open


@pytest.fixture(params=ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def fitted(request, table):
    return clone(request.param).fit(table)


@pytest.fixture
def drawn():
    if not has_place:
        pytest.skip("this scikit-learn has no place in its diagrams")


@pytest.mark.usefixtures("drawn")
def test_the_network_and_its_losses(fitted):
    html = fitted._repr_html_()
    n_parameters = sum(p.numel() for p in fitted.net_.module_.parameters())
    assert f"{n_parameters:,} parameters" in html
    assert f"training {fitted.loss_curve_[-1]:.4g}" in html
    losses = fitted.validation_loss_curve_
    assert (f"validation {(losses or [0])[-1]:.4g}" in html) == (losses is not None)
    assert (f"epoch {fitted.best_epoch_}: " in html) == (losses is not None)
    assert html.count('role="img"') == 2
    assert_balanced(html)


@pytest.mark.parametrize("model", ESTIMATORS, ids=lambda estimator: type(estimator).__name__)
def test_unfitted_is_scikit_learns_own(model):
    html = clone(model)._repr_html_()
    assert "skae-network" not in html
    assert type(model).__name__ in html


@pytest.mark.usefixtures("drawn")
def test_also_in_a_pipeline(table):
    pipeline = make_pipeline(StandardScaler(), clone(ESTIMATORS[0]))
    assert "skae-network" not in estimator_html_repr(pipeline)
    html = estimator_html_repr(pipeline.fit(table))
    assert html.count('class="skae-network"') == 1
    assert_balanced(html)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss_curve_", None),
        ("loss_curve_", ["low", "lower"]),
        ("validation_loss_curve_", 1.0),
        ("best_epoch_", None),
        ("net_", None),
        ("net_", SimpleNamespace(module_=None)),
    ],
)
def test_unexpected_attributes_never_break_the_diagram(name, value, fitted):
    setattr(fitted, name, value)
    html = estimator_html_repr(fitted)
    assert_balanced(html)
    assert type(fitted).__name__ in html
    delattr(fitted, name)
    assert_balanced(estimator_html_repr(fitted))


@pytest.mark.usefixtures("drawn")
def test_drawing_twice_draws_the_same(table):
    model = clone(ESTIMATORS[0]).fit(table)
    bare = [re.sub(r"sk-(estimator|container)-id-\d+", "", model._repr_html_()) for _ in range(2)]
    assert bare[0] == bare[1]


def test_widths(table):
    facts = [describe(clone(model).fit(table).net_, 10) for model in ESTIMATORS]
    widths = [[fact.n_inputs, *(layer.width for layer in fact.encoder)] for fact in facts]
    # The denoiser also reads whether each cell is missing; the generator's encoder returns
    # means and log-variances.
    assert widths == [[10, 7, 5, 2], [10, 7, 2], [20, 7, 5, 2], [10, 7, 5, 4]]
    assert [fact.n_latents for fact in facts] == [2] * 4
    assert [fact.n_members for fact in facts] == [1, 2, 1, 1]
    label = "Widths of the layers: 10 to 7 to 5 to 2 to 5 to 7 to 10"
    assert label in network_html(facts[0])
    assert label in network_html(facts[3])


@pytest.mark.parametrize("n_estimators", [None, 2])
def test_layers_of_unknown_width_are_named(n_estimators, digits):
    network = ConvNetwork(image_shape=(1, 8, 8), channels=(4,))
    model = AutoencoderTransformer(2, network=network, max_epochs=1)
    if n_estimators:
        model = AutoencoderOutlierDetector(
            n_components=2, n_estimators=n_estimators, network=network, max_epochs=1
        )
    facts = describe(model.fit(digits[:100]).net_, 64)
    assert [layer.text for layer in facts.encoder] == [
        "Conv2d 1 → 4, 3x3, stride 2x2",
        "Linear to 2",
    ]
    html = network_html(facts)
    assert "<svg" not in html
    assert "Conv2d 1 → 4" in html


class Evil(nn.Linear):
    def extra_repr(self):
        return SCRIPT

    def __repr__(self):
        return SCRIPT


class EvilLayer(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)

    def forward(self, x):
        return self.layer(x)

    def __repr__(self):
        return f"{SCRIPT}<b>"


class EvilNetwork:
    def build(self, n_features, n_components):
        encoder = nn.Sequential(EvilLayer(n_features, 4), Evil(4, n_components))
        return encoder, nn.Sequential(EvilLayer(n_components, n_features))

    def __repr__(self):
        return SCRIPT


def test_what_users_give_is_escaped(table):
    columns = [f"{SCRIPT}{i}" for i in range(10)]
    frame = pd.DataFrame(table, columns=columns)
    model = AutoencoderTransformer(2, network=EvilNetwork(), max_epochs=1, random_state=0)
    html = make_pipeline(model).fit(frame)._repr_html_()
    assert "alert(1)" not in html.replace("&lt;script&gt;alert(1)", "")
    if has_place:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;b&gt;" in html


def test_link_to_the_manual(fitted):
    page = f"{DOCUMENTATION}/api/generated/skae.{type(fitted).__name__}.html"
    assert fitted._get_doc_link() == page
    assert f'href="{page}"' in fitted._repr_html_()
    assert hasattr(skae, type(fitted).__name__)


def test_a_class_of_the_users_own_has_no_page():
    class Own(AutoencoderTransformer):
        pass

    assert Own()._get_doc_link() == ""


def test_the_address_of_the_manual_is_that_of_setup_cfg(repository):
    config = configparser.ConfigParser()
    config.read(repository / "setup.cfg")
    urls = dict(
        map(str.strip, line.split("=", 1))
        for line in config["metadata"]["project_urls"].strip().splitlines()
    )
    assert urls["Documentation"] == DOCUMENTATION


def test_a_diagram_of_an_unknown_type_stays_as_it_is():
    from skae._sklearn import preceded_by

    other = object()
    assert preceded_by("more", other) is other


# Strings of plain facts.


def points_of(html):
    return [
        [tuple(map(float, pair.split(","))) for pair in line.split()]
        for line in re.findall(r'<polyline points="([^"]*)"', html)
    ]


def test_curves_follow_the_losses():
    html = loss_html(LossFacts([4.0, 3.0, 2.0], [5.0, 3.0, 1.0, 2.0], best_epoch=2))
    training, validation = points_of(html)
    assert [x for x, _ in validation[1:]] == [x for x, _ in training]
    heights = [y for _, y in validation]
    assert np.argsort(heights).tolist() == [0, 1, 3, 2]  # the largest loss is at the top
    x, y = re.search(r'cx="([\d.]+)" cy="([\d.]+)" r="4" fill="#d9480f" st', html).groups()
    assert (float(x), float(y)) == validation[2]
    assert "best epoch 2: 1" in html


def test_an_epoch_that_is_kept_need_not_be_the_best():
    assert "kept epoch 1: 2" in loss_html(LossFacts([2.0], [1.0, 2.0], best_epoch=1))


def test_only_many_times_larger_losses_need_logarithms():
    assert "(log)" in loss_html(LossFacts([100.0, 1.0], None, 2))
    assert "(log)" not in loss_html(LossFacts([10.0, 1.0], None, 2))
    assert "(log)" not in loss_html(LossFacts([100.0, -1.0], None, 2))


@pytest.mark.parametrize(
    "facts",
    [
        LossFacts([1.0], None, 1),
        LossFacts([1.0], [1.0, 1.0], 0),
        LossFacts([0.0, 0.0], [0.0, 0.0, 0.0], 2),
        LossFacts([1.0, 1e30], [1e-30, 1.0, np.inf], 0),
        LossFacts([np.nan, 1.0], None, 2),
        LossFacts(list(range(10_000)), list(range(10_001)), 5),
    ],
)
def test_curves_of_all_sorts(facts):
    html = loss_html(facts)
    assert_balanced(html)
    assert not re.search(r"nan|inf", html)
    assert all(len(points) <= MAX_POINTS + 1 for points in points_of(html))
    places = np.array([pair for points in points_of(html) for pair in points])
    assert (places >= 0).all()
    assert (places <= [320, 112]).all()


def test_without_losses_there_is_no_curve():
    assert loss_html(LossFacts([], None, 0)) == ""


def test_deep_networks_are_cut_short():
    layers = [Layer(f"layer {i}", 3) for i in range(MAX_LAYERS + 5)]
    html = network_html(NetworkFacts(layers, layers[:1], 4, 3, 1))
    assert "… and 5 more" in html
    assert "1 parameter<" in html
    html = network_html(NetworkFacts([Layer("x" * 1000)], [], 4, 1, 10))
    assert len(html) < 1000
    assert_balanced(html)
