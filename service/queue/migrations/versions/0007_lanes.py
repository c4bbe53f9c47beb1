"""Lanes: the line is planned by kinds of gangs, and why they wait is kept between the dispatcher's looks."""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BATCH = 500
ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
jobs = sa.table("vaesvc_jobs", *(sa.column(name) for name in ("id", "state", "priority", "owner", "resources", "lane")))


def lane(priority: int, owner: str, resources: str) -> str:
    """Return the lane's name, as `service.queue.line` makes it of a job in the line."""
    text = json.dumps([priority, owner, resources], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def upgrade() -> None:
    op.add_column("vaesvc_jobs", sa.Column("lane", ID, nullable=False, server_default=""))
    connection, last = op.get_bind(), ""
    columns = (jobs.c.id, jobs.c.priority, jobs.c.owner, jobs.c.resources)
    while True:  # what is over gets its lane too: it may be queued again
        rows = connection.execute(sa.select(*columns).where(jobs.c.id > last).order_by(jobs.c.id).limit(BATCH)).all()
        if not rows:
            break
        for row in rows:
            name = lane(row.priority, row.owner, row.resources)
            connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(lane=name))
        last = rows[-1].id
    op.create_index("vaesvc_jobs_lane", "vaesvc_jobs", ["state", "lane", "id"])
    op.create_index("vaesvc_jobs_line", "vaesvc_jobs", ["state", "priority", "id"])
    op.create_index("vaesvc_jobs_tracked", "vaesvc_jobs", ["tracked", "state", "id"])
    op.drop_index("vaesvc_jobs_state", "vaesvc_jobs")
    op.create_table(
        "vaesvc_plan",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("waiting", sa.Text, nullable=False),
        sa.Column("head", ID),
        sa.Column("made_at", sa.Double, nullable=False),
    )
