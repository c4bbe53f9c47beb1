"""How many neighbours the manifolds of features have, as the papers have it."""

NEIGHBOURS = 3  # of precision and recall
DENSITY_NEIGHBOURS = 5  # of density and coverage
FEWEST = max(NEIGHBOURS, DENSITY_NEIGHBOURS) + 1  # images: each has so many neighbours
