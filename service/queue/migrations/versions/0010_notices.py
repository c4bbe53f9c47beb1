"""Notices: who wants to be told of what, and what is still to be told."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "vaesvc_subscriptions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("job_id", ID),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("address", sa.String(1000), nullable=False),
        sa.Column("notices", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("vaesvc_subscriptions_owner", "vaesvc_subscriptions", ["owner"])
    op.create_index("vaesvc_subscriptions_job", "vaesvc_subscriptions", ["job_id"])
    op.create_table(
        "vaesvc_outbox",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("subscription", sa.String(32), nullable=False),
        sa.Column("job_id", ID, nullable=False),
        sa.Column("notice", sa.String(16), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("next_at", sa.Double),
        sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
        sa.Column("delivered_at", sa.Double),
        sa.Column("error", sa.Text),
    )
    op.create_index("vaesvc_outbox_next", "vaesvc_outbox", ["next_at"])
    op.create_index("vaesvc_outbox_subscription", "vaesvc_outbox", ["subscription", "job_id"])
