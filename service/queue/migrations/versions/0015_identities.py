"""Logins by a provider: which user an account there is; users who are refused for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vaesvc_users", sa.Column("disabled_at", sa.Double))
    op.add_column("vaesvc_tokens", sa.Column("login", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "vaesvc_identities",
        sa.Column("issuer", sa.String(500), primary_key=True),
        sa.Column("subject", sa.String(255), primary_key=True),
        sa.Column("name", sa.String(200), sa.ForeignKey("vaesvc_users.name"), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("vaesvc_identities_name", "vaesvc_identities", ["name"])
