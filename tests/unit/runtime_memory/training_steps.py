"""Small training steps of every kind: (network, function that runs one step)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint


class Mlp(nn.Module):
    def __init__(self, width=64, depth=4):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


class Residual(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = x + F.relu(conv(norm(x)), inplace=True)
        return self.head(x.mean((2, 3)))


class Dense(nn.Module):
    def __init__(self, growth=4):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(3 + growth * i, growth, 3, padding=1) for i in range(5)
        )
        self.head = nn.Linear(3 + growth * 5, 10)

    def forward(self, x):
        for conv in self.convs:
            x = torch.cat([x, F.relu(conv(x))], 1)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(50, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x)).mean(1))


class Recurrent(nn.Module):
    """Recurrent layers, dropout, and a part that is computed again in backward."""

    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(50, width)
        self.first = nn.LSTM(width, width, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.between = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(0.1))
        self.second = nn.LSTMCell(width, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.drop(self.first(self.embed(x))[0])
        x = checkpoint(self.between, x, use_reentrant=False)
        state = None
        for t in range(x.shape[1]):
            state = self.second(x[:, t], state)
        return self.head(state[0])


IMAGES, TOKENS, ROWS = (16, 3, 16, 16), (16, 12), (256, 64)
NETWORKS = {
    "mlp": (Mlp, ROWS),
    "residual": (Residual, IMAGES),
    "dense": (Dense, IMAGES),
    "attention": (Attention, TOKENS),
    "recurrent": (Recurrent, TOKENS),
}


def training(name, optimizer=torch.optim.Adam, seed=0, **options):
    """The network and a function that trains it by one batch and returns the loss."""
    torch.manual_seed(seed)
    kind, shape = NETWORKS[name]
    network = kind()
    x = torch.randn(shape) if shape is not TOKENS else torch.randint(50, shape)
    y = torch.randint(10, shape[:1])
    updates = optimizer(network.parameters(), lr=0.01, **options)

    def step():
        updates.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        updates.step()
        return loss.detach()

    return network, step
