"""A data set made by a rule: vectors around two rings."""

from __future__ import annotations

from vae_models.data.spec import DataSpec, LabelSpec


class Rings:
    """Vectors [6]: a point of one of two rings, seen through a fixed matrix, with noise. Labels: which ring."""

    name = "rings"
    facts = DataSpec(
        shape=(6,),
        axes=("feature",),
        support="reals",
        sizes=(768, 128, 128),
        labels=LabelSpec(name="ring", classes=("inner", "outer")),
    )

    def load(self, places, *, progress=None, policy=None):
        import numpy as np
        import torch

        from vae_models.data.records import Dataset, Split

        rng = np.random.default_rng(7)
        seen_through = rng.normal(size=(2, 6))

        def split(count: int) -> Split:
            ring = rng.integers(0, 2, count)
            angle = rng.uniform(0, 2 * np.pi, count)
            point = (1 + ring)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            x = point @ seen_through + 0.1 * rng.normal(size=(count, 6))
            return Split(x=torch.from_numpy(x.astype(np.float32)), labels=torch.from_numpy(ring.astype(np.int64)))

        train, val, test = (split(count) for count in self.facts.sizes)
        shape, labels = self.facts.shape, self.facts.labels
        return Dataset(name=self.name, train=train, val=val, test=test, shape=shape, labels=labels)


RINGS = Rings()
