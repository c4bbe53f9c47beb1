"""Marks in a long line: a place is counted from the nearest one."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vaesvc_plan", sa.Column("marks", sa.Text, nullable=False, server_default="{}"))
    op.add_column("vaesvc_plan", sa.Column("marked_at", sa.Double, nullable=False, server_default="0"))
