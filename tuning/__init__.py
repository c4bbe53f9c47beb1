"""What to try and what won: search spaces, studies, packs. Its place is kept; searches come with their own release."""
