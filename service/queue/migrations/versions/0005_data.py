"""Data sets of users' own: what lies in the bucket, the names that point to it, and which jobs need it."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "vaesvc_data_sets",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("files", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("touched_at", sa.Double, nullable=False),
    )
    op.create_table(
        "vaesvc_data",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("digest", sa.String(64), sa.ForeignKey("vaesvc_data_sets.digest"), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("moved_at", sa.Double, nullable=False),
    )
    op.create_index("vaesvc_data_digest", "vaesvc_data", ["digest"])
    op.create_table(
        "vaesvc_job_data",
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
        sa.Column("digest", sa.String(64), sa.ForeignKey("vaesvc_data_sets.digest"), primary_key=True),
    )
    op.create_index("vaesvc_job_data_digest", "vaesvc_job_data", ["digest"])
    _moves()


def _moves() -> None:
    op.create_table(
        "vaesvc_data_moves",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("digest", sa.String(64)),
        sa.Column("previous", sa.String(64)),
        sa.Column("by", sa.String(200), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("vaesvc_data_moves_name", "vaesvc_data_moves", ["name", "id"])
    op.create_index("vaesvc_data_moves_digest", "vaesvc_data_moves", ["digest"])
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER vaesvc_data_moves_no_{what.lower()} BEFORE {what} ON vaesvc_data_moves "
                "BEGIN SELECT RAISE(ABORT, 'vaesvc_data_moves is append-only'); END"
            )
        return
    op.execute(
        "CREATE TRIGGER vaesvc_data_moves_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON vaesvc_data_moves "
        "FOR EACH STATEMENT EXECUTE FUNCTION vaesvc_append_only()"
    )
