"""Variational autoencoders as combinations of parts. PyTorch only: no cluster, no tracking server, no cloud."""
