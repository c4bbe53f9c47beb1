"""What a run is, as data: pydantic models, every choice a union discriminated by `kind`, unknown fields refused.

A config holds everything that the result depends on; nothing of the machine it runs on. A part's config is beside the
part (`vae_models.likelihoods.specs`, `vae_models.priors.specs`, ...); its `build()` turns it into the part, and imports
torch then, because a config is read and checked in places where loading torch would take longer than the work. Recipes
are functions that return a `TrainConfig` (`vae_models.recipes`).
"""
