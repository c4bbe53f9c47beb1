"""When what waits is expected to start, and what came of what was expected before."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "vaesvc_expected",
        sa.Column("lane", ID, primary_key=True),
        sa.Column("points", sa.Text, nullable=False),
        sa.Column("made_at", sa.Double, nullable=False),
    )
    op.create_table(
        "vaesvc_expectations",
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
        sa.Column("made_at", sa.Double, nullable=False),
        sa.Column("guess", sa.Text, nullable=False),
        sa.Column("told", sa.Text, nullable=False),
    )
    op.create_index("vaesvc_expectations_made", "vaesvc_expectations", ["made_at"])
