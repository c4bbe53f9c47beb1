"""Reproductions whose runs are jobs of the service: `vaesvc reproduce PAPER TABLE --service`."""
