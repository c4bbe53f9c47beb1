"""Nodes, and operators' drains of them."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vaesvc_nodes",
        sa.Column("id", sa.String(100), primary_key=True),
        sa.Column("address", sa.String(100), nullable=False),
        sa.Column("head", sa.Boolean, nullable=False),
        sa.Column("resources", sa.Text, nullable=False),
        sa.Column("attempts", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("gone_at", sa.Double),
        sa.Column("ray_drains", sa.Boolean, nullable=False),
        sa.Column("ray_deadline", sa.Double),
        sa.Column("obeys", sa.Double),
    )
    op.create_table(
        "vaesvc_drains",
        sa.Column("address", sa.String(100), primary_key=True),
        sa.Column("since", sa.Double, nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("because", sa.Text, nullable=False),
        sa.Column("until", sa.Double),
    )
