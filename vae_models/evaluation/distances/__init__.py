"""How far a model's samples, reconstructions and interpolations are from the data, by features of images."""
