"""Quotas of storage. What a model that was registered before takes is not known: it counts nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vaesvc_quotas", sa.Column("storage_bytes", sa.BigInteger))
    op.add_column("vaesvc_model_versions", sa.Column("bytes", sa.BigInteger))
    op.create_index("vaesvc_data_sets_owner", "vaesvc_data_sets", ["owner"])
