"""Pictures of an evaluation in a real S3 server: where the job's view finds them, and as files of a user's."""

from __future__ import annotations

from pathlib import Path

from service import areas
from service.artifacts import Artifacts
from service.cli.pictures import save
from service.kinds.evaluate.storage import keep_picture
from tests.jobs import make_job
from vae_models.evaluation.findings import Picture


def test_a_picture_is_kept_and_saved_still_and_in_motion(artifacts: Artifacts, tmp_path: Path) -> None:
    job = make_job()
    pictures = (
        Picture(name="prediction", png=b"still", gif=b"moving"),
        Picture(name="samples/prior", png=b"samples"),
    )
    kept: dict[str, str] = {}
    for picture in pictures:
        kept |= keep_picture(artifacts, job.id, picture)
    addresses = areas.picture_addresses(artifacts, job.model_copy(update={"result": {"pictures": kept}}))
    assert list(addresses) == ["prediction", "prediction.gif", "samples/prior"]
    saved = save(addresses, tmp_path / "out", "j-1")
    names = {name: path.relative_to(tmp_path / "out").as_posix() for name, path in saved.items()}
    assert names == {
        "prediction": "j-1-prediction.png",
        "prediction.gif": "j-1-prediction.gif",
        "samples/prior": "j-1-samples/prior.png",
    }
    assert [path.read_bytes() for path in saved.values()] == [b"still", b"moving", b"samples"]
