"""Videos, each frame predicted from those before it and a latent of its own: SVG-LP (Denton and Fergus 2018).

frame_specs.py  the nets of a frame, as data: a seam
frames.py       the nets of a frame: DCGAN's and VGG's
recurrent.py    what remembers: the LSTMs of predictor, posterior and prior
model.py        the topology: teacher forcing, traces, predictions
specs.py        all of it as data
"""
