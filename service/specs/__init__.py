"""What people write becomes a specification: the fields of every job, and `--set path=value`."""
