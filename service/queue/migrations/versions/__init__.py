"""One file per version of the tables; the newest is what `schema.py` says."""
