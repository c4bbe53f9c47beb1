"""Sentences: an encoder and a decoder that read tokens one after another, and one latent vector between them.

nets.py        the recurrent nets
model.py       the topology: teacher forcing, dropout from the noise, sentences from z
multi_rate.py  the same for every beta at once
specs.py       all of it as data
"""
