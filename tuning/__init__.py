"""What to try and what won: spaces, studies, packs of configurations in one process, and who wins."""
