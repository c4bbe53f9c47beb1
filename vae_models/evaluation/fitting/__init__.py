"""Laws of z that are fitted to a trained model, and stored beside it as data.

fit.py           `fit(subject, sampler)`, and the law of any sampler, fitted where it has to be
fitted.py        what was fitted, in a folder
latents.py       latents as the data of a training, drawn anew in each step
second_stage.py  a small VAE of the latents, trained by the same loop
quality.py       the evaluator `samplers`: fits, how good they are, samples of each
"""
