"""What a latent space holds: units that are used, information, smoothness, known factors, and pictures of it.

encoded.py  what several of them share: a latent of each datum, a share of the data, every beta of the plan
specs.py    the evaluators as data
"""
