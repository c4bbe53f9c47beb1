"""Registered model versions, which the service signs. What was registered before is signed by the dispatcher."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "vaesvc_model_versions",
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("mlflow_version", sa.BigInteger),
        sa.Column("envelope", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.UniqueConstraint("name", "version", name="vaesvc_model_versions_number"),
    )
    # the dispatcher looks again at every job that has succeeded, and registers what is not signed
    op.execute("UPDATE vaesvc_jobs SET tracked = false WHERE state = 'SUCCEEDED'")
