"""What every recipe and one study compute, as digests, and those of the commit before: see `__main__`."""
