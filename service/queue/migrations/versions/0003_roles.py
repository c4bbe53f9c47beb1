"""Administrators among the tokens, and attempts that were lost to no fault of the job.

Tokens that are there already stay ordinary users: nobody is made more than they were. `vaesvc up` and
`deploy/prepare.py` make their own token an administrator's when they run next, `vaesvc token role` any other.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vaesvc_tokens", sa.Column("admin", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("vaesvc_jobs", sa.Column("outages", sa.Integer, nullable=False, server_default="0"))
