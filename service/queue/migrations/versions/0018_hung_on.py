"""The nodes of attempts that hung."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vaesvc_attempts", sa.Column("hung_on", sa.Text))
