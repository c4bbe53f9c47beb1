"""What the queue knows of a job's kind, as data: until now it read the kind's own part of the spec."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BATCH = 500
LENGTHEN = "to train it for longer, from its last checkpoint on: vaesvc retry {job} --set epochs=N"
EXTEND = "for more trials: vaesvc study extend {job} --trials N"
jobs = sa.table("vaesvc_jobs", sa.column("id"), sa.column("kind"), sa.column("spec"), sa.column("policy"))


def policy(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Return the policy by which version 0.1 treated jobs of this kind."""
    if kind == "study":
        return {"amendments": {"extend": EXTEND}, "signals": ["finish"]}
    if kind == "train":
        checkpoint = spec.get("train", {}).get("checkpoint", {})
        kept = {name: checkpoint[name] for name in ("metric", "mode", "keep_best") if name in checkpoint}
        return {"amendments": {"lengthen": LENGTHEN}, "retention": kept}
    return {}


def upgrade() -> None:
    op.add_column("vaesvc_jobs", sa.Column("policy", sa.Text, nullable=False, server_default="{}"))
    connection, last = op.get_bind(), ""
    while True:  # a table of all jobs there ever were does not have to fit into memory
        query = sa.select(jobs.c.id, jobs.c.kind, jobs.c.spec).where(jobs.c.id > last).order_by(jobs.c.id).limit(BATCH)
        rows = connection.execute(query).all()
        if not rows:
            return
        for row in rows:
            text = json.dumps(policy(row.kind, json.loads(row.spec)), sort_keys=True, separators=(",", ":"))
            connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(policy=text))
        last = rows[-1].id
