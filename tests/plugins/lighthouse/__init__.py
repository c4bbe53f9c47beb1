"""One part of every kind, for vaesvc."""
