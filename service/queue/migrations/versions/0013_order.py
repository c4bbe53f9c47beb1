"""Order and time: jobs that are held back, that come after others or are in arrays; labels to find jobs by; limits in
time, and how long ago an attempt's training loop came by."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")
IN_ARRAY = sa.text("\"array\" <> ''")


def upgrade() -> None:
    op.create_index("vaesvc_jobs_owned", "vaesvc_jobs", ["owner", "id"])
    op.create_table(
        "vaesvc_holds",
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_table(
        "vaesvc_labels",
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("value", sa.String(200), nullable=False),
    )
    op.create_index("vaesvc_labels_value", "vaesvc_labels", ["name", "value", "job_id"])
    op.create_table(
        "vaesvc_after",
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
        sa.Column("before_id", ID, primary_key=True),
        sa.Column("wanted", sa.String(16), nullable=False),
        sa.Column("met_at", sa.Double),
    )
    op.create_index("vaesvc_after_unmet", "vaesvc_after", ["met_at", "job_id"])
    _arrays()
    _limits()


def _arrays() -> None:
    op.add_column("vaesvc_jobs", sa.Column("array", sa.String(32), nullable=False, server_default=""))
    op.create_index(
        "vaesvc_jobs_array", "vaesvc_jobs", ["array", "state", "id"], sqlite_where=IN_ARRAY, postgresql_where=IN_ARRAY
    )
    op.create_table(
        "vaesvc_arrays",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("at_most", sa.Integer),
        sa.Column("first_id", ID, nullable=False),
        sa.Column("waiting", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("vaesvc_arrays_waiting", "vaesvc_arrays", ["waiting"])


def _limits() -> None:
    for name in ("moved_at", "usual_seconds"):
        op.add_column("vaesvc_attempts", sa.Column(name, sa.Double))
    op.add_column("vaesvc_attempts", sa.Column("stop_reason", sa.Text))
    op.add_column("vaesvc_attempts", sa.Column("hangs", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "vaesvc_limits",
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
        sa.Column("max_seconds", sa.Double),
        sa.Column("attempt_seconds", sa.Double),
        sa.Column("deadline", sa.Double),
        sa.Column("hang_seconds", sa.Double),
        sa.Column("hang_factor", sa.Double, nullable=False),
        sa.Column("before", sa.Integer, nullable=False),
    )
    op.create_index("vaesvc_limits_deadline", "vaesvc_limits", ["deadline"])
