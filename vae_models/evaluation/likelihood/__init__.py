"""What a model says of x: ELBO, rate, distortion, the likelihood by importance sampling, rate-distortion curves."""
