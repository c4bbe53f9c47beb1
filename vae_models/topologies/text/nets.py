"""Recurrent encoder and decoder of sentences (Hu et al. 2019, the nets that MR-VAE C.2 trains on Yahoo)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vae_models.nn.gates import Features


class SentenceEncoder(nn.Module):
    """Tokens -> embedding -> LSTM without bias -> its last (h, c) -> mean and log variance of q(z|x).

    deep: mean and log variance are from hidden layers of their own, as wide as the state, with a ReLU.
    """

    def __init__(self, *, vocabulary: int, embedding: int, hidden: int, latent: int, deep: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, bias=False, batch_first=True)
        self.state = Features(2 * hidden)
        self.head = _DeepHead(2 * hidden, latent) if deep else nn.Linear(2 * hidden, 2 * latent)

    def forward(
        self, x: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"] | None
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Return mean and log variance.

        Padding is moved in front of the sentence, as zeros: an LSTM without bias stays at zero through them, so its
        last state is that of the sentence alone, whatever it is padded to.
        """
        embedded = self.embedding(x)
        if mask is not None:
            embedded = _padded_in_front(embedded, mask)
        _, (h, c) = self.lstm(embedded)
        mean, raw = self.head(self.state(torch.cat([h[0], c[0]], dim=1))).chunk(2, dim=1)
        return mean, raw


class _DeepHead(nn.Module):
    """Features -> mean and log variance, side by side: [batch, 2 x latent]."""

    def __init__(self, features: int, latent: int) -> None:
        super().__init__()
        self.mean, self.raw = (
            nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, latent)) for _ in range(2)
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([self.mean(features), self.raw(features)], dim=1)


class SentenceDecoder(nn.Module):
    """z -> the LSTM's first (h, c); at each place [embedding of the token before, z] -> LSTM -> logits."""

    def __init__(self, *, vocabulary: int, embedding: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.start = nn.Linear(latent, 2 * hidden)
        self.lstm = nn.LSTM(embedding + latent, hidden, bias=False, batch_first=True)
        self.output = nn.Linear(hidden, vocabulary)

    def forward(
        self,
        z: Float[Tensor, "batch latent"],
        before: Int[Tensor, "batch time"],
        kept_inputs: Tensor | None,
        kept_outputs: Tensor | None,
    ) -> Float[Tensor, "batch vocabulary time"]:
        """Return the logits of each place, given the tokens before it.

        kept_inputs, kept_outputs: dropout's factors, 0 or 1 / (1 - p), of embeddings and of the LSTM's outputs
        """
        embedded = _times(self.embedding(before), kept_inputs)
        inputs = torch.cat([embedded, z.unsqueeze(1).expand(-1, before.shape[1], -1)], dim=2)
        outputs, _ = self.lstm(inputs, self.first(z))
        logits: Tensor = self.output(_times(outputs, kept_outputs))
        return logits.transpose(1, 2)

    def first(self, z: Float[Tensor, "batch latent"]) -> tuple[Tensor, Tensor]:
        """Return the LSTM's first state, each [1, batch, hidden]."""
        h, c = self.start(z).chunk(2, dim=1)
        return h.unsqueeze(0).contiguous(), c.unsqueeze(0).contiguous()

    def next(
        self, z: Float[Tensor, "batch latent"], token: Int[Tensor, " batch"], state: tuple[Tensor, Tensor]
    ) -> tuple[Float[Tensor, "batch vocabulary"], tuple[Tensor, Tensor]]:
        """Return the logits of the token after this one, and the LSTM's next state."""
        inputs = torch.cat([self.embedding(token), z], dim=1).unsqueeze(1)
        outputs, state = self.lstm(inputs, state)
        return self.output(outputs[:, 0]), state


def _times(x: Tensor, factors: Tensor | None) -> Tensor:
    return x if factors is None else x * factors


def _padded_in_front(embedded: Tensor, mask: Tensor) -> Tensor:
    """Return the sequences with their padding, as zeros, before them. mask: true on data, which come first."""
    time = embedded.shape[1]
    padding = time - mask.sum(1, keepdim=True)
    place = torch.arange(time, device=embedded.device) - padding  # of what stands there, in the sequence
    moved = embedded.gather(1, place.clamp(min=0).unsqueeze(2).expand_as(embedded))
    return moved * (place >= 0).unsqueeze(2)
