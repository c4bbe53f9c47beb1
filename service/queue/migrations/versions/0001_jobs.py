"""Jobs, attempts, checkpoints, the append-only event log, tokens and the cluster as it was last seen."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# ids sort by byte, not by the locale
ID = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    _jobs()
    _attempts()
    _checkpoints()
    _events()
    op.create_table(
        "vaesvc_tokens",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_table(
        "vaesvc_cluster",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("address", sa.Text),
        sa.Column("ok", sa.Boolean, nullable=False),
        sa.Column("nodes", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("most", sa.Text),
        sa.Column("most_at", sa.Double),
    )


def _jobs() -> None:
    op.create_table(
        "vaesvc_jobs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("key", sa.String(200)),
        sa.Column("spec_sha256", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("resources", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("backoff_seconds", sa.Double, nullable=False),
        sa.Column("not_before", sa.Double, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("progress", sa.Text, nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("run_id", sa.String(200)),
        sa.Column("tracked", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("cancel_requested_at", sa.Double),
        sa.UniqueConstraint("owner", "key", name="vaesvc_jobs_owner_key"),
    )
    op.create_index("vaesvc_jobs_state", "vaesvc_jobs", ["state"])


def _attempts() -> None:
    op.create_table(
        "vaesvc_attempts",
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("runner_id", sa.String(200)),
        sa.Column("nodes", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("submitted_at", sa.Double),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("lease_until", sa.Double),
        sa.Column("error", sa.Text),
        sa.Column("log_uri", sa.Text),
    )
    op.create_index("vaesvc_attempts_state", "vaesvc_attempts", ["state"])


def _checkpoints() -> None:
    op.create_table(
        "vaesvc_checkpoints",
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
        sa.Column("uri", sa.String(1000), primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("manifest_sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("committed_at", sa.Double, nullable=False),
        sa.Column("given_up_for", sa.String(1000)),
    )


def _events() -> None:
    op.create_table(
        "vaesvc_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("job_id", ID, sa.ForeignKey("vaesvc_jobs.id"), nullable=False),
        sa.Column("epoch", sa.Integer),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("vaesvc_events_job", "vaesvc_events", ["job_id", "id"])
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER vaesvc_events_no_{what.lower()} BEFORE {what} ON vaesvc_events "
                "BEGIN SELECT RAISE(ABORT, 'vaesvc_events is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION vaesvc_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    op.execute(
        "CREATE TRIGGER vaesvc_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON vaesvc_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION vaesvc_append_only()"
    )
