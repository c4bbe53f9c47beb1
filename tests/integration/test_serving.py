"""A pulled model served by MLflow: a real process on a free port of loopback, asked over HTTP."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from tests import trained_models
from vae_models.trained import Trained

START_SECONDS = 240
MLFLOW = Path(sys.executable).parent / "mlflow"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_models.pulled(tmp_path_factory.mktemp("serving") / "model", trained_models.config_of())


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Of `mlflow models serve`, as README starts it, on another port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (block,) = [one for one in blocks if "mlflow models serve -m model " in one]
    command = block.replace("--port 5001", f"--port {port}").replace("mlflow models", "exec mlflow models")
    environment = os.environ | {"PATH": f"{MLFLOW.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    log = folder.parent / "serve.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            ["bash", "-c", command],
            env=environment,
            cwd=folder.parent,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait(server, f"http://127.0.0.1:{port}/ping", log)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def wait(server: subprocess.Popen[bytes], ping: str, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            if httpx.get(ping, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"the server does not answer\n{log.read_text()}")


def asked(address: str, inputs: Any, **params: Any) -> httpx.Response:
    data = inputs.tolist() if isinstance(inputs, np.ndarray) else inputs
    return httpx.post(address, json={"inputs": data, "params": params}, timeout=60, trust_env=False)


def predictions(address: str, inputs: Any, **params: Any) -> Any:
    answer = asked(address, inputs, **params)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)


def test_what_is_served_is_what_the_model_makes(address: str, folder: Path, x: NDArray[np.float32]) -> None:
    model = Trained.load(folder)
    np.testing.assert_allclose(predictions(address, x), model.reconstruct(x), rtol=1e-6)
    encoded = predictions(address, x.reshape(3, -1), task="encode")
    np.testing.assert_allclose(encoded["mean"], model.encode(x).mean, rtol=1e-6)
    np.testing.assert_allclose(encoded["std"], model.encode(x).std, rtol=1e-6)
    np.testing.assert_allclose(predictions(address, encoded["mean"], task="decode"), model.reconstruct(x), rtol=1e-5)
    drawn = predictions(address, [], task="sample", count=2, seed=5, form="samples")
    np.testing.assert_allclose(drawn, model.sample(2, seed=5, form="samples"), rtol=1e-6)
    scores = predictions(address, x, task="score", samples=5, seed=1)
    np.testing.assert_allclose(scores["nll"], model.score(x, samples=5, seed=1)["nll"], rtol=1e-9)


@pytest.mark.parametrize(
    ("inputs", "params", "words"),
    [
        ([[0.1, 0.2]], {"task": "score"}, "data of shape (1, 2) given; this model takes [n, 64]"),
        ([[2.0] * 64], {}, "divide bytes by 255 first"),
        ([[0.0] * 64], {"task": "dream"}, "task 'dream' given: it is one of reconstruct, encode, decode"),
        ([[0.0] * 64], {"task": "sample", "temperature": -1.0}, "temperature -1.0 given"),
        ([[0.0] * 64], {"task": "sample", "count": "many"}, "Can not safely convert"),  # MLflow's own check
    ],
)
def test_a_wrong_request_is_answered_with_400_and_why(
    address: str, inputs: Any, params: dict[str, Any], words: str
) -> None:
    answer = asked(address, inputs, **params)
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert words in told["message"] + told.get("stack_trace", "")
