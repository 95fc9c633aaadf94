"""Training steps in plain PyTorch, for the benchmarks of memory: nothing of gradbase in here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.first_norm(self.first(x)), inplace=True)
        hidden = self.second_norm(self.second(hidden))
        hidden += self.shortcut(x)
        return F.relu(hidden, inplace=True)


def resnet(width: int, blocks: Sequence[int] = (2, 2, 2, 2), classes: int = 10) -> nn.Module:
    """ResNet for small images: stages of doubling width, the first at full resolution."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(True),
    ]
    inputs = width
    for stage, depth in enumerate(blocks):
        for block in range(depth):
            outputs = width << stage
            layers.append(Residual(inputs, outputs, 2 if stage and not block else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def vgg(side: int, classes: int = 10, scale: float = 1.0) -> nn.Module:
    """VGG-16; the classifier has 4,096 units for images of 224 pixels, 512 for small ones."""
    layers: list[nn.Module] = []
    inputs = 3
    for stage, depth in zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True):
        width = int(stage * scale)
        for _ in range(depth):
            layers += [nn.Conv2d(inputs, width, 3, 1, 1), nn.ReLU(True)]
            inputs = width
        layers.append(nn.MaxPool2d(2))
    flat = inputs * (side // 32) ** 2
    hidden = 4096 if side > 100 else inputs
    head = [nn.Linear(flat, hidden), nn.ReLU(True), nn.Linear(hidden, hidden), nn.ReLU(True)]
    return nn.Sequential(*layers, nn.Flatten(), *head, nn.Linear(hidden, classes))


class DenseLayer(nn.Module):
    """Batch normalisation, 1x1 and 3x3 convolution; the result is appended to the input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(inputs)
        self.first = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(4 * growth)
        self.second = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(F.relu(self.first_norm(x), inplace=True))
        hidden = self.second(F.relu(self.second_norm(hidden), inplace=True))
        return torch.cat((x, hidden), 1)


def densenet(growth: int, blocks: Sequence[int], classes: int = 10) -> nn.Module:
    """DenseNet with bottlenecks and transitions that halve the width."""
    width = 2 * growth
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False)]
    for stage, depth in enumerate(blocks):
        for _ in range(depth):
            layers.append(DenseLayer(width, growth))
            width += growth
        if stage + 1 < len(blocks):
            layers += [
                nn.BatchNorm2d(width),
                nn.ReLU(True),
                nn.Conv2d(width, width // 2, 1, bias=False),
            ]
            layers.append(nn.AvgPool2d(2))
            width //= 2
    layers += [nn.BatchNorm2d(width), nn.ReLU(True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(width, classes))


class Transformer(nn.Module):
    """Encoder over tokens that predicts each of them."""

    def __init__(self, words: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, 0.1, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.head = nn.Linear(width, words)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embed(tokens)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden).flatten(0, 1)


class Recurrent(nn.Module):
    """LSTM cells, unrolled, over tokens."""

    def __init__(self, words: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.cells = nn.ModuleList(nn.LSTMCell(width, width) for _ in range(depth))
        self.head = nn.Linear(width, words)

    def forward(self, tokens: Tensor) -> Tensor:
        embedded = self.embed(tokens)
        states: list[tuple[Tensor, Tensor] | None] = [None] * len(self.cells)
        outputs: list[Tensor] = []
        for time in range(tokens.shape[1]):
            hidden = embedded[:, time]
            for i, cell in enumerate(self.cells):
                states[i] = cell(hidden, states[i])
                hidden = states[i][0]
            outputs.append(hidden)
        return self.head(torch.stack(outputs, 1)).flatten(0, 1)


Step = Callable[[], Tensor]


@dataclass(frozen=True)
class Workload:
    """A network and a batch: images of `side` pixels, or `length` tokens out of `words`."""

    network: Callable[[], nn.Module]
    batch: int
    side: int = 32
    classes: int = 10
    words: int = 0
    length: int = 0

    def make(self, device: str = "cpu") -> tuple[nn.Module, Step]:
        """The network and its training step, with the same weights and batch each time."""
        torch.manual_seed(0)
        with torch.device(device):
            network = self.network()
        if self.words:
            x = torch.randint(self.words, (self.batch, self.length), device=device)
            y = x.flatten()
            updates: torch.optim.Optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        else:
            x = torch.randn(self.batch, 3, self.side, self.side, device=device)
            y = torch.randint(self.classes, (self.batch,), device=device)
            updates = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

        def step() -> Tensor:
            updates.zero_grad()
            loss = F.cross_entropy(network(x), y)
            loss.backward()
            updates.step()
            return loss.detach()

        return network, step


# As in papers. Traced without computing, so their size costs nothing.
LARGE = {
    "resnet-18": Workload(lambda: resnet(64), 100),
    "wide-resnet-28-10": Workload(lambda: resnet(160, (4, 4, 4)), 100),
    "vgg-16": Workload(lambda: vgg(32), 100),
    "vgg-16-224": Workload(lambda: vgg(224, 1000), 100, 224, 1000),
    "densenet-121": Workload(lambda: densenet(32, (6, 12, 24, 16)), 100),
    "transformer": Workload(lambda: Transformer(10_000, 512, 6, 8), 32, words=10_000, length=128),
    "lstm": Workload(lambda: Recurrent(10_000, 1500, 2), 100, words=10_000, length=35),
}

# Small enough to train on a processor.
SMALL = {
    "resnet": Workload(lambda: resnet(32), 64),
    "vgg": Workload(lambda: vgg(32, scale=0.5), 100),
    "densenet": Workload(lambda: densenet(12, (3, 6, 6)), 32),
    "transformer": Workload(lambda: Transformer(2000, 256, 4, 4), 16, words=2000, length=128),
    "lstm": Workload(lambda: Recurrent(2000, 256, 2), 64, words=2000, length=32),
}
