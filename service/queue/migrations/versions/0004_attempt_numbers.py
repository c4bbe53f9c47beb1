"""An attempt has a number: it was called `epoch`, which in training is a pass over the data."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

RENAMED = (
    ("vaesvc_jobs", "attempt"),
    ("vaesvc_attempts", "number"),
    ("vaesvc_checkpoints", "attempt"),
    ("vaesvc_events", "attempt"),
)


def upgrade() -> None:
    for table, name in RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN epoch TO {name}")
