"""What people look at: pictures of data, reconstructions, samples, latent dimensions and curves, in one style."""
