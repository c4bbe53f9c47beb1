"""Groups, quotas and usage: who goes first, and how much somebody may hold. What ran before is nobody's usage."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("vaesvc_attempts", sa.Column("charged", sa.Boolean, nullable=False, server_default=sa.false()))
    attempts = sa.table("vaesvc_attempts", sa.column("charged", sa.Boolean), sa.column("ended_at"))
    op.get_bind().execute(sa.update(attempts).where(attempts.c.ended_at.is_not(None)).values(charged=True))
    op.create_index("vaesvc_attempts_charged", "vaesvc_attempts", ["charged"])
    op.create_index("vaesvc_jobs_owner", "vaesvc_jobs", ["owner", "state"])
    for name in ("held", "shares"):
        op.add_column("vaesvc_plan", sa.Column(name, sa.Text, nullable=False, server_default="{}"))
    op.create_table(
        "vaesvc_groups",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "vaesvc_members",
        sa.Column("user", sa.String(200), primary_key=True),
        sa.Column("group", sa.String(100), sa.ForeignKey("vaesvc_groups.name"), nullable=False),
    )
    op.create_index("vaesvc_members_group", "vaesvc_members", ["group"])
    op.create_table(
        "vaesvc_quotas",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("gpus", sa.Double),
        sa.Column("cpus", sa.Double),
        sa.Column("workers", sa.Integer),
        sa.Column("queued", sa.Integer),
        sa.Column("priority", sa.Integer),
    )
    op.create_table(
        "vaesvc_usage",
        sa.Column("group", sa.String(100), primary_key=True),
        sa.Column("user", sa.String(200), primary_key=True),
        sa.Column("gpu_seconds", sa.Double, nullable=False),
        sa.Column("cpu_seconds", sa.Double, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
