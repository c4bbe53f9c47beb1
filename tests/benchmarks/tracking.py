"""What logging costs a step, and how many points a second reach MLflow: `python -m tests.benchmarks.tracking`."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from service.tracking import RunWriter, open_run
from tests.jobs import make_job
from tests.servers import Mlflow, Swift

STEPS = 5_000
METRICS = {f"train/metric{i}": 0.5 * i for i in range(8)}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vaesvc-benchmark-") as folder:
        root = Path(folder)
        swift = Swift(root / "s3")
        mlflow = Mlflow(root / "mlflow", swift)
        try:
            swift.start()
            mlflow.start()
            measure(mlflow.uri, root / "spool")
        finally:
            mlflow.stop()
            swift.stop()


def measure(uri: str, spool: Path) -> None:
    run_id = open_run(uri, make_job(), number=1)
    writer = RunWriter(uri, run_id, spool)
    taken = []
    begun = time.perf_counter()
    for step in range(STEPS):
        start = time.perf_counter()
        writer.log_metrics(step, METRICS)
        taken.append((time.perf_counter() - start) * 1e6)
    said = time.perf_counter() - begun
    left = writer.close(600)
    total = time.perf_counter() - begun
    points = STEPS * len(METRICS)
    percentiles = statistics.quantiles(taken, n=100)
    print(f"log_metrics of {len(METRICS)} metrics: median {percentiles[49]:.1f} us, 99% {percentiles[98]:.1f} us")
    print(f"said {points} points in {said:.2f} s; delivered in {total:.1f} s: {points / total:.0f} points a second")
    print("every point is in MLflow" if left is None else f"not delivered: {left}")


if __name__ == "__main__":
    main()
