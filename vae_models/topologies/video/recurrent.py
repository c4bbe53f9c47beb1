"""What remembers the frames so far: LSTMs of the predictor, the posterior and the learned prior."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from vae_models.topologies.video.frames import first_weights

State = tuple[Tensor, Tensor] | None  # of an LSTM: (h, c), each [layers, batch, hidden]; None: zeros


class Predictor(nn.Module):
    """Features of the frame before and z of this one -> features of this one: linear, LSTM, linear, tanh."""

    def __init__(self, *, features: int, latent: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(features + latent, hidden)
        self.lstm = nn.LSTM(hidden, hidden, num_layers=layers, batch_first=True)
        self.output = nn.Sequential(nn.Linear(hidden, features), nn.Tanh())
        self.apply(first_weights)

    def forward(
        self, inputs: Float[Tensor, "batch time inputs"], state: State = None
    ) -> tuple[Float[Tensor, "batch time features"], State]:
        """Return the features of each frame and the state after the last. inputs: [features, z] side by side."""
        outputs, state = self.lstm(self.embedding(inputs), state)
        features: Tensor = self.output(outputs)
        return features, state


class GaussianLSTM(nn.Module):
    """Features of frames -> mean and log variance of a diagonal normal after each: linear, LSTM, two linear heads."""

    def __init__(self, *, features: int, latent: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Linear(features, hidden)
        self.lstm = nn.LSTM(hidden, hidden, num_layers=layers, batch_first=True)
        self.mean = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)
        self.apply(first_weights)

    def forward(
        self, features: Float[Tensor, "batch time features"], state: State = None
    ) -> tuple[Float[Tensor, "batch time latent"], Float[Tensor, "batch time latent"], State]:
        """Return means, log sigmas (half the log variances), and the state after the last frame."""
        outputs, state = self.lstm(self.embedding(features), state)
        return self.mean(outputs), self.log_variance(outputs) / 2, state
