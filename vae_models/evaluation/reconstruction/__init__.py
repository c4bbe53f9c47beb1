"""How near E[x|z] comes to x: squared errors, SSIM, and what variances a model has found in its data."""
