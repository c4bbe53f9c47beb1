"""What is drawn from a ladder."""

from __future__ import annotations

from lighthouse.conditional import halves
from lighthouse.ladder_model import Ladder
from vae_models.records import NoiseSpec


class DrawnLadder(Ladder):
    """x of z2 ~ N(0, I) and z1 ~ p(z1|z2)."""

    def prior_noise(self):
        return self.noise()

    def sample_noise(self):
        return {**self.noise(), "x": NoiseSpec(shape=self.data_shape, kind="uniform")}

    def _decoded(self, noise):
        mean, log_std = halves(self.down2, noise["z2"])
        return self.down1(mean + log_std.exp() * noise["z1"])

    def sample_mean(self, noise, beta=None):
        return self.likelihood.mean(self._decoded(noise))

    def sample(self, noise, beta=None):
        return self.likelihood.sample(self._decoded(noise), noise["x"])
