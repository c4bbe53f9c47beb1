"""p(z1|z2), a normal whose mean and scale z2 has said."""

from __future__ import annotations

from torch import nn

from vae_models.normal import HALF_LOG_TWO_PI, sum_per_datum


class Conditional(nn.Module):
    """N(z; mean, diag std^2), a row for each datum."""

    def __init__(self, mean, log_std) -> None:
        super().__init__()
        self.mean, self.log_std = mean, log_std

    def log_prob(self, z):
        """[batch], nats per datum."""
        standard = (z - self.mean) * (-self.log_std).exp()
        return -sum_per_datum(0.5 * standard.square() + self.log_std + HALF_LOG_TWO_PI)

    def normal_kl(self, mean, log_std):
        """None: the rate is of the sample."""
        return


def halves(layer, z):
    """A linear layer's two outputs: a mean, and half of a log variance."""
    mean, raw = layer(z).chunk(2, 1)
    return mean, raw / 2
