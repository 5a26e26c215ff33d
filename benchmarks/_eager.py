"""Training loops as in good tutorials, the baseline of skae's times."""

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

LEARNING_RATE = 1e-3
LATENT_NOISE = 0.1
INPUT_NOISE = 0.2


class Setting(NamedTuple):
    """Sizes of a table and of the network trained on it."""

    n_rows: int
    n_features: int
    hidden: int
    code: int
    batch_size: int
    epochs: int

    @property
    def n_steps(self):
        return self.epochs * -(-self.n_rows // self.batch_size)

    def __str__(self):
        sizes = f"{self.hidden}-{self.code}-{self.hidden}"
        return f"{self.n_rows}x{self.n_features}, {sizes}, batch {self.batch_size}"


# Networks.


class PlainAutoencoder(nn.Module):
    def __init__(self, setting):
        super().__init__()
        d, h, k = setting.n_features, setting.hidden, setting.code
        self.encoder = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, k))
        self.decoder = nn.Sequential(nn.Linear(k, h), nn.ReLU(), nn.Linear(h, d))

    def forward(self, x):
        return self.decoder(self.encoder(x))


class LinearPathAutoencoder(PlainAutoencoder):
    """With linear maps in parallel with encoder and decoder, and noise on the latents."""

    def __init__(self, setting):
        super().__init__(setting)
        self.into = nn.Linear(setting.n_features, setting.code)
        self.out = nn.Linear(setting.code, setting.n_features)

    def forward(self, x):
        z = self.encoder(x) + self.into(x)
        z = z + LATENT_NOISE * torch.randn_like(z)
        return self.decoder(z) + self.out(z)


class VariationalAutoencoder(nn.Module):
    def __init__(self, setting):
        super().__init__()
        d, h, k = setting.n_features, setting.hidden, setting.code
        self.encoder = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, 2 * k))
        self.decoder = nn.Sequential(nn.Linear(k, h), nn.ReLU(), nn.Linear(h, d))
        self.log_deviation = nn.Parameter(torch.zeros(d))


# Losses of a batch.


def squared_error(model, x):
    return F.mse_loss(model(x), x)


def denoising_error(model, x):
    return F.mse_loss(model(x + INPUT_NOISE * torch.randn_like(x)), x)


def cauchy_error(model, x):
    return torch.log1p((model(x) - x) ** 2).mean()


def negative_elbo(model, x):
    """For a Gaussian likelihood with one deviation per column, in nats per row."""
    mean, log_variance = model.encoder(x).chunk(2, dim=1)
    z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
    residual = (x - model.decoder(z)) / torch.exp(model.log_deviation)
    cells = 0.5 * residual**2 + model.log_deviation + 0.5 * math.log(2 * math.pi)
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
    return (cells.sum(dim=1) + divergence.sum(dim=1)).mean()


# Training loops.


def draw_with_replacement(n_rows):
    return torch.randint(n_rows, (n_rows,))


def train(setting, X, network, objective, draw=torch.randperm, device="cpu"):
    """The training loop of a good tutorial; returns the trained network."""
    x_all = torch.from_numpy(X).to(device)
    model = network(setting).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for _ in range(setting.epochs):
        order = draw(len(x_all))
        for start in range(0, len(x_all), setting.batch_size):
            x = x_all[order[start : start + setting.batch_size]]
            optimizer.zero_grad()
            loss = objective(model, x)
            loss.backward()
            optimizer.step()
    return model


def fit_plain(setting, X, device="cpu"):
    return train(setting, X, PlainAutoencoder, squared_error, device=device)


def fit_linear_path(setting, X):
    return train(setting, X, LinearPathAutoencoder, squared_error)


def fit_denoiser(setting, X):
    return train(setting, X, PlainAutoencoder, denoising_error)


def fit_vae(setting, X):
    return train(setting, X, VariationalAutoencoder, negative_elbo)


def fit_member(setting, X):
    """A member of an ensemble: rows are drawn with replacement, large errors count less."""
    return train(setting, X, PlainAutoencoder, cauchy_error, draw_with_replacement)
