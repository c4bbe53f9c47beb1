"""Features of images, on which distances between models and data are measured: parts of the seam `features`."""
