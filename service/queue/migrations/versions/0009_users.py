"""Users apart from their tokens, which may be several, with scopes and an end; and the audit log.

Every token that is there stays what it was: the `main` one of a user of its name, who is an administrator or an
ordinary user as before. No token needs to be made again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

before = sa.table("vaesvc_tokens", *(sa.column(name) for name in ("name", "sha256", "created_at", "admin")))


def upgrade() -> None:
    held = op.get_bind().execute(sa.select(before)).all()
    users = op.create_table(
        "vaesvc_users",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.drop_table("vaesvc_tokens")
    tokens = op.create_table(
        "vaesvc_tokens",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(200), sa.ForeignKey("vaesvc_users.name"), nullable=False),
        sa.Column("label", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("replaced", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_index("vaesvc_tokens_name", "vaesvc_tokens", ["name", "label"])
    for row in held:
        role = "admin" if row.admin else "user"
        op.bulk_insert(users, [{"name": row.name, "role": role, "created_at": row.created_at}])
        op.bulk_insert(
            tokens,
            [{"sha256": row.sha256, "name": row.name, "label": "main", "created_at": row.created_at}],
        )
    _audit()


def _audit() -> None:
    op.create_table(
        "vaesvc_audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("act", sa.String(200), nullable=False),
        sa.Column("object", sa.String(500), nullable=False),
        sa.Column("origin", sa.String(200), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("vaesvc_audit_actor", "vaesvc_audit", ["actor", "id"])
    op.create_index("vaesvc_audit_object", "vaesvc_audit", ["object", "id"])
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER vaesvc_audit_no_{what.lower()} BEFORE {what} ON vaesvc_audit "
                "BEGIN SELECT RAISE(ABORT, 'vaesvc_audit is append-only'); END"
            )
        return
    op.execute(
        "CREATE TRIGGER vaesvc_audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON vaesvc_audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION vaesvc_append_only()"
    )
