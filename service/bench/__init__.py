"""What a training step costs here: beside loops that are written by hand, another package, and the machine's limits."""
