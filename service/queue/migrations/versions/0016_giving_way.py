"""Attempts that give way, and jobs that do not have to."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("vaesvc_jobs", sa.Column("preemptible", sa.Boolean, nullable=False, server_default=sa.true()))
    op.add_column("vaesvc_attempts", sa.Column("stop_until", sa.Double))
    op.add_column("vaesvc_attempts", sa.Column("gives_way", sa.String(16)))
    op.add_column("vaesvc_attempts", sa.Column("gives_way_to", ID))
