"""What the papers measure about a trained model: `run.evaluate(subject, plan)`.

    specs.py     the seam of evaluators, and `EvaluationPlan`, which says what is evaluated on what
    subject.py   a trained model with its data, and what several evaluators ask of both
    findings.py  what an evaluator returns: values with errors, tables, pictures, tensors
    run.py       evaluators one after another; what is done is kept, so that an evaluation goes on where it was
    kept.py      where it is kept: a folder
    drawing.py   samples of the model, by any sampler
    fitting/     samplers that are fitted to the model, stored as data

Every other module is an evaluator, or what several of them share. The mathematics lies in `vae_models.metrics`.
"""

from vae_models.evaluation import specs  # noqa: F401 - before its parts, each of which may be the first to be imported
