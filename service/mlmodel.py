"""MLflow's description of a registered model: what it takes, what it gives, and an example. Pure.

The loader (`service.pyfunc`) takes data as [n, *datum] or laid flat as [n, elements], as an array of any number type, a
list or a data frame. A signature of a tensor cannot say so, and MLflow refuses what it does not say: float64, which
is what numpy makes, and data frames. So the signature states the one form that all models of the service share, and
says by `is_signature_from_type_hint` that the loader itself checks its input, which it does; MLflow then shows the
signature and leaves the check to it. (`mlflow models serve` takes {"inputs": ...} then, and no data
frames.) Tasks beside reconstruction, and their settings, are the signature's parameters.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from service import __version__
from service.model_files import EXAMPLE, LOADER, SERVING_EXAMPLE
from service.queue.jobs import Checkpoint, Job
from service.tracking import describe
from service.tracking.dataset import tensors
from vae_models.data.config import DataConfig
from vae_models.trained.params import PARAMS


def mlmodel(job: Job, checkpoint: Checkpoint, size: int, shape: Sequence[int], data: DataConfig, kind: str) -> bytes:
    """Return the file MLmodel. The same job and checkpoint give the same bytes.

    size: of the weights, bytes; shape: of one datum; data: that it was trained on; kind: of numbers
    that it computes with, such as float32.
    """
    import yaml

    made = datetime.fromtimestamp(checkpoint.committed_at, UTC)
    code = job.spec.get("code")
    own = {} if code is None else {"vaesvc.code": dict(code)}
    given = json.dumps(tensors(tuple(shape), "int64" if data.support == "tokens" else kind))
    made_of_it = json.dumps(tensors(tuple(shape), kind))
    description = {
        "flavors": {
            "python_function": {"loader_module": LOADER, "python_version": platform.python_version()},
        },
        "is_signature_from_type_hint": True,
        "metadata": {
            "vaesvc.version": __version__,
            "vaesvc.job_id": job.id,
            "vaesvc.step": checkpoint.step,
            "vaesvc.data": describe.data_name({"data": data.model_dump(mode="json")}),
            "vaesvc.data_shape": list(shape),
            "vaesvc.data_axes": list(data.facts.axes),
            "vaesvc.data_support": data.support,
            **own,
        },
        "mlflow_version": importlib.metadata.version("mlflow"),
        "model_size_bytes": size,
        "model_uuid": uuid.uuid5(uuid.NAMESPACE_URL, f"{checkpoint.uri}#{checkpoint.manifest_sha256}").hex,
        "saved_input_example_info": {
            "artifact_path": EXAMPLE,
            "serving_input_path": SERVING_EXAMPLE,
            "type": "ndarray",
            "format": "tf-serving",
        },
        "signature": {"inputs": given, "outputs": made_of_it, "params": params()},
        "type_hint_from_example": False,
        "utc_time_created": made.strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    return yaml.safe_dump(description, sort_keys=True).encode()


def params() -> str:
    """Return MLflow's schema of what a model's `predict` takes beside data: tasks and their settings."""
    schema = (
        {"name": name, "type": each.type, "default": each.default, "shape": None} for name, each in PARAMS.items()
    )
    return json.dumps(list(schema))


def examples(shape: Sequence[int]) -> dict[str, bytes]:
    """Return MLflow's examples of an input and of a request to a served model, by file: one datum of zeros, which lies
    in the support of every likelihood, for nobody's data goes into a model's files."""
    data: Any = 0
    for length in (*reversed(shape), 1):
        data = [data] * length
    return {EXAMPLE: json.dumps(data).encode(), SERVING_EXAMPLE: json.dumps({"inputs": data}).encode()}
