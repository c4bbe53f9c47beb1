"""Latents over several scales, each with a prior that the ones above it say: NVAE (Vahdat and Kautz 2020).

plan.py     which cells there are, of which widths: from the specification alone, without torch
cells.py    residual cells of both published kinds
towers.py   the deterministic way up from x, and the way down through the latents
model.py    the topology: residual normals, traces, samples
specs.py    all of it as data
"""
