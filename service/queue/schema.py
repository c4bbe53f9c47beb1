"""The tables. The migrations build them; a test holds the two together.

Every name starts with `vaesvc_`, so that the database may be shared with MLflow (which has a table `jobs` of its own).
Times are seconds since 1970 by the database's clock; JSON is kept as canonical text (sorted keys, no NaN).
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from service.queue.jobs import canonical


class Canonical(str):
    """JSON in its one form already: kept as it is."""


class Json(TypeDecorator[Any]):
    """JSON as text: the same bytes for the same value on every database, and strings may hold U+0000."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return value if value is None or isinstance(value, Canonical) else canonical(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(value)


def _id() -> sa.types.TypeEngine[str]:
    # byte order, not the locale's: ids sort by time
    return sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


metadata = sa.MetaData()

_IN_ARRAY = sa.text("\"array\" <> ''")  # jobs outside of arrays cost this index nothing

jobs = sa.Table(
    "vaesvc_jobs",
    metadata,
    sa.Column("id", _id(), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("key", sa.String(200)),  # idempotency key; none: never the same job twice
    sa.Column("spec_sha256", sa.String(64), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("spec", Json, nullable=False),
    sa.Column("resources", Json, nullable=False),
    sa.Column("policy", Json, nullable=False, server_default="{}"),  # `service.queue.policy`; what it lacks: default
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("outages", sa.Integer, nullable=False, server_default="0"),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("backoff_seconds", sa.Double, nullable=False),
    sa.Column("not_before", sa.Double, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("progress", Json, nullable=False),
    sa.Column("result", Json, nullable=False),
    sa.Column("run_id", sa.String(200)),
    sa.Column("tracked", sa.Boolean, nullable=False),  # MLflow's run has been closed with the final state
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("started_at", sa.Double),
    sa.Column("ended_at", sa.Double),
    sa.Column("cancel_requested_at", sa.Double),
    sa.Column("lane", _id(), nullable=False, server_default=""),  # `service.queue.line`; empty: to be filled in
    sa.Column("array", sa.String(32), nullable=False, server_default=""),  # `service.queue.arrays`; empty: in none
    sa.Column("preemptible", sa.Boolean, nullable=False, server_default=sa.true()),  # its attempts may be preempted
    sa.UniqueConstraint("owner", "key", name="vaesvc_jobs_owner_key"),
    sa.Index("vaesvc_jobs_lane", "state", "lane", "id"),
    sa.Index("vaesvc_jobs_line", "state", "priority", "id"),
    sa.Index("vaesvc_jobs_owned", "owner", "id"),
    sa.Index("vaesvc_jobs_tracked", "tracked", "state", "id"),
    sa.Index("vaesvc_jobs_owner", "owner", "state"),
    sa.Index("vaesvc_jobs_array", "array", "state", "id", sqlite_where=_IN_ARRAY, postgresql_where=_IN_ARRAY),
)

attempts = sa.Table(
    "vaesvc_attempts",
    metadata,
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("runner_id", sa.String(200)),
    sa.Column("nodes", Json, nullable=False),  # where admission put each worker: indices into the cluster's nodes
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("submitted_at", sa.Double),
    sa.Column("started_at", sa.Double),
    sa.Column("ended_at", sa.Double),
    sa.Column("lease_until", sa.Double),
    sa.Column("error", sa.Text),
    sa.Column("log_uri", sa.Text),
    sa.Column("charged", sa.Boolean, nullable=False, server_default=sa.false()),  # it is in `usage`: only when it ended
    sa.Column("moved_at", sa.Double),  # when its loop last came by; none: it has not been heard to yet
    sa.Column("usual_seconds", sa.Double),  # the longest that the loop has been away so far
    sa.Column("stop_reason", sa.Text),  # why the attempt, not the job, shall end
    sa.Column("hangs", sa.Boolean, nullable=False, server_default=sa.false()),  # that is why
    sa.Column("hung_on", Json),  # Ray's ids of the nodes of one that hangs, as far as they were known
    sa.Column("stop_until", sa.Double),  # when one that gives way is killed
    sa.Column("gives_way", sa.String(16)),  # `service.queue.giving_way`: its job goes on in another one, at no cost
    sa.Column("gives_way_to", _id()),  # the job that gets its room
    sa.Index("vaesvc_attempts_state", "state"),
    sa.Index("vaesvc_attempts_charged", "charged"),
)

checkpoints = sa.Table(
    "vaesvc_checkpoints",
    metadata,
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
    sa.Column("uri", sa.String(1000), primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("manifest_sha256", sa.String(64), nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("metrics", Json, nullable=False),
    sa.Column("committed_at", sa.Double, nullable=False),
    sa.Column("given_up_for", sa.String(1000)),  # the checkpoint whose commit made retention give this one up
)

events = sa.Table(
    "vaesvc_events",  # append-only: triggers refuse update and delete
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), nullable=False),
    sa.Column("attempt", sa.Integer),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("detail", Json, nullable=False),
    sa.Index("vaesvc_events_job", "job_id", "id"),
    sqlite_autoincrement=True,
)

users = sa.Table(
    "vaesvc_users",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),  # `service.queue.roles`
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("disabled_at", sa.Double),  # none: their tokens and logins are taken
)

identities = sa.Table(
    "vaesvc_identities",  # which user a provider's account is
    metadata,
    sa.Column("issuer", sa.String(500), primary_key=True),
    sa.Column("subject", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(200), sa.ForeignKey("vaesvc_users.name"), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Index("vaesvc_identities_name", "name"),
)

tokens = sa.Table(
    "vaesvc_tokens",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(200), sa.ForeignKey("vaesvc_users.name"), nullable=False),  # whose it is
    sa.Column("label", sa.String(64), nullable=False),  # which of the user's tokens
    sa.Column("scopes", Json),  # none: whatever the user's role may
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("replaced", sa.Boolean, nullable=False, server_default=sa.false()),  # by a newer one of this label
    sa.Column("login", sa.Boolean, nullable=False, server_default=sa.false()),  # it came of a login by a provider
    sa.Index("vaesvc_tokens_name", "name", "label"),
)

audit = sa.Table(
    "vaesvc_audit",  # append-only: who did what, and who was refused
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),  # the user's name; empty: nobody who is known
    sa.Column("token", sa.String(64), nullable=False),  # the label of the user's token; empty: none
    sa.Column("act", sa.String(200), nullable=False),  # the call: its method and its path's template
    sa.Column("object", sa.String(500), nullable=False),  # the job, name or user that it was about
    sa.Column("origin", sa.String(200), nullable=False),  # the address that it came from
    sa.Column("status", sa.Integer, nullable=False),  # the answer, as HTTP's status
    sa.Column("detail", Json, nullable=False),
    sa.Index("vaesvc_audit_actor", "actor", "id"),
    sa.Index("vaesvc_audit_object", "object", "id"),
    sqlite_autoincrement=True,
)

subscriptions = sa.Table(
    "vaesvc_subscriptions",  # who wants to be told of what, and where
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("job_id", _id()),  # none: all of the owner's jobs
    sa.Column("channel", sa.String(16), nullable=False),  # `service.queue.outbox`
    sa.Column("address", sa.String(1000), nullable=False),
    sa.Column("notices", Json, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Index("vaesvc_subscriptions_owner", "owner"),
    sa.Index("vaesvc_subscriptions_job", "job_id"),
)

outbox = sa.Table(
    "vaesvc_outbox",  # what is to be told, written in the transaction of what happened
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("subscription", sa.String(32), nullable=False),
    sa.Column("job_id", _id(), nullable=False),  # empty: a trial
    sa.Column("notice", sa.String(16), nullable=False),
    sa.Column("body", Json, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("next_at", sa.Double),  # when it is tried next; none: it has been delivered, or given up
    sa.Column("tries", sa.Integer, nullable=False, server_default="0"),
    sa.Column("delivered_at", sa.Double),
    sa.Column("error", sa.Text),  # of the last try
    sa.Index("vaesvc_outbox_next", "next_at"),
    sa.Index("vaesvc_outbox_subscription", "subscription", "job_id"),
)

measured = sa.Table(
    "vaesvc_measured",  # what processes measure of themselves: the newest of each name
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

holds = sa.Table(
    "vaesvc_holds",  # jobs that somebody holds back
    metadata,
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

arrays = sa.Table(
    "vaesvc_arrays",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),  # jobs that it has when all are submitted
    sa.Column("at_most", sa.Integer),  # of them in the line or running at once; none: no limit
    sa.Column("first_id", _id(), nullable=False),  # the job that stands for it in lists
    sa.Column("waiting", sa.Boolean, nullable=False),  # some of its jobs may wait for their turn
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Index("vaesvc_arrays_waiting", "waiting"),
)

limits = sa.Table(
    "vaesvc_limits",  # of jobs that have other limits in time than most; seconds
    metadata,
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
    sa.Column("max_seconds", sa.Double),
    sa.Column("attempt_seconds", sa.Double),
    sa.Column("deadline", sa.Double),  # none: there is none, or it has been seen to
    sa.Column("hang_seconds", sa.Double),  # none: a hang is not looked for
    sa.Column("hang_factor", sa.Double, nullable=False),
    sa.Column("before", sa.Integer, nullable=False),  # attempts that do not count: of before it was queued again
    sa.Index("vaesvc_limits_deadline", "deadline"),
)

after = sa.Table(
    "vaesvc_after",  # which jobs wait for which: always for one that was there before
    metadata,
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
    # no foreign key: whoever submits must not wait for locks of several jobs that admission takes in another order
    sa.Column("before_id", _id(), primary_key=True),
    sa.Column("wanted", sa.String(16), nullable=False),  # how that one shall have ended
    sa.Column("met_at", sa.Double),  # none: it has not, or not yet
    sa.Index("vaesvc_after_unmet", "met_at", "job_id"),
)

labels = sa.Table(
    "vaesvc_labels",  # what a job's spec calls it, to be found by
    metadata,
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("value", sa.String(200), nullable=False),
    sa.Index("vaesvc_labels_value", "name", "value", "job_id"),
)

cluster = sa.Table(
    "vaesvc_cluster",  # one row: what the dispatcher saw last, and the most that was ever seen
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("address", sa.Text),
    sa.Column("ok", sa.Boolean, nullable=False),
    sa.Column("nodes", Json, nullable=False),
    sa.Column("seen_at", sa.Double, nullable=False),
    sa.Column("most", Json),  # nodes; none: nothing was seen yet
    sa.Column("most_at", sa.Double),  # when it last grew
)

nodes = sa.Table(
    "vaesvc_nodes",  # the cluster's, as the dispatcher saw them last
    metadata,
    sa.Column("id", sa.String(100), primary_key=True),  # Ray's
    sa.Column("address", sa.String(100), nullable=False),
    sa.Column("head", sa.Boolean, nullable=False),
    sa.Column("resources", Json, nullable=False),
    sa.Column("attempts", Json, nullable=False),  # names in Ray of those that have workers there
    sa.Column("seen_at", sa.Double, nullable=False),
    sa.Column("gone_at", sa.Double),  # when it was first missed; none: it is there
    sa.Column("ray_drains", sa.Boolean, nullable=False),
    sa.Column("ray_deadline", sa.Double),
    sa.Column("obeys", sa.Double),  # `since` of the drain that the dispatcher knew of when it looked
)

drains = sa.Table(
    "vaesvc_drains",  # operators' orders: of machines, so by address
    metadata,
    sa.Column("address", sa.String(100), primary_key=True),
    sa.Column("since", sa.Double, nullable=False),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("because", sa.Text, nullable=False),
    sa.Column("until", sa.Double),  # none: until somebody resumes it
)

plan = sa.Table(
    "vaesvc_plan",  # one row: why what waits has to wait, by kind of gang, as of the dispatcher's last look
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("waiting", Json, nullable=False),  # the gang's resources, as text -> why
    sa.Column("head", _id()),  # the job that nobody may delay
    sa.Column("made_at", sa.Double, nullable=False),  # when it last changed
    sa.Column("held", Json, nullable=False, server_default="{}"),  # lane -> the quota that it waits for
    sa.Column("shares", Json, nullable=False, server_default="{}"),  # group -> what it has used, where that is too much
    sa.Column("marks", Json, nullable=False, server_default="{}"),  # `service.queue.line.marks`
    sa.Column("marked_at", sa.Double, nullable=False, server_default="0"),
)

expected = sa.Table(
    "vaesvc_expected",  # when what waits is expected to start, as of the dispatcher's last look
    metadata,
    sa.Column("lane", _id(), primary_key=True),  # empty: the whole line
    sa.Column("points", Json, nullable=False),  # `service.queue.expected.Point`; none: it cannot start as things are
    sa.Column("made_at", sa.Double, nullable=False),
)

expectations = sa.Table(
    "vaesvc_expectations",  # ranges that some jobs were told first: what came of them calibrates those told later
    metadata,
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
    sa.Column("made_at", sa.Double, nullable=False),
    sa.Column("guess", Json, nullable=False),  # seconds from then: earliest and latest, before calibration
    sa.Column("told", Json, nullable=False),  # the same after it
    sa.Index("vaesvc_expectations_made", "made_at"),
)

groups = sa.Table(
    "vaesvc_groups",  # users who share the cluster as one, by weight
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("weight", sa.Double, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)

members = sa.Table(
    "vaesvc_members",
    metadata,
    sa.Column("user", sa.String(200), primary_key=True),  # so: of one group at most
    sa.Column("group", sa.String(100), sa.ForeignKey("vaesvc_groups.name"), nullable=False),
    sa.Index("vaesvc_members_group", "group"),
)

quotas = sa.Table(
    "vaesvc_quotas",  # `service.queue.share_records.Quota`; none: no limit
    metadata,
    sa.Column("kind", sa.String(8), primary_key=True),  # user, group
    sa.Column("name", sa.String(200), primary_key=True),  # user *: whoever has none of their own
    sa.Column("gpus", sa.Double),
    sa.Column("cpus", sa.Double),
    sa.Column("workers", sa.Integer),
    sa.Column("queued", sa.Integer),
    sa.Column("priority", sa.Integer),
    sa.Column("storage_bytes", sa.BigInteger),  # `service.queue.stored`
)

usage = sa.Table(
    "vaesvc_usage",  # of attempts that are over, as it counted at `at`: `service.queue.sharing`
    metadata,
    sa.Column("group", sa.String(100), primary_key=True),  # empty: of a user in no group
    sa.Column("user", sa.String(200), primary_key=True),
    sa.Column("gpu_seconds", sa.Double, nullable=False),
    sa.Column("cpu_seconds", sa.Double, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
)

model_versions = sa.Table(
    "vaesvc_model_versions",  # what the service has signed; MLflow's registry shows it
    metadata,
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("mlflow_version", sa.BigInteger),  # none: MLflow does not show it yet
    sa.Column("envelope", sa.Text, nullable=False),  # the signed statement
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("bytes", sa.BigInteger),  # of all files; none: registered before it was noted
    sa.UniqueConstraint("name", "version", name="vaesvc_model_versions_number"),
)

data_sets = sa.Table(
    "vaesvc_data_sets",  # what lies in the bucket below data/DIGEST, or is on its way there or out of it
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(200), nullable=False),  # who brought it first
    sa.Column("state", sa.String(16), nullable=False),  # uploading, complete, removing
    sa.Column("manifest", sa.Text, nullable=False),  # data.json's bytes
    sa.Column("facts", Json, nullable=False),  # its DataSpec, with the digest
    sa.Column("bytes", sa.BigInteger, nullable=False),  # of all files but data.json
    sa.Column("files", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("touched_at", sa.Double, nullable=False),  # when it was last wanted: from here the grace is counted
    sa.Index("vaesvc_data_sets_owner", "owner"),
)

data_names = sa.Table(
    "vaesvc_data",  # a name is a pointer to a digest
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("digest", sa.String(64), sa.ForeignKey("vaesvc_data_sets.digest"), nullable=False),
    sa.Column("owner", sa.String(200), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("moved_at", sa.Double, nullable=False),
    sa.Index("vaesvc_data_digest", "digest"),
)

data_moves = sa.Table(
    "vaesvc_data_moves",  # append-only: where each name has ever pointed
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("digest", sa.String(64)),  # none: the name was removed
    sa.Column("previous", sa.String(64)),  # none: the name was new
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Index("vaesvc_data_moves_name", "name", "id"),
    sa.Index("vaesvc_data_moves_digest", "digest"),
    sqlite_autoincrement=True,
)

job_data = sa.Table(
    "vaesvc_job_data",  # which sets a job's spec names: a job can be run again for as long as it is known
    metadata,
    sa.Column("job_id", _id(), sa.ForeignKey("vaesvc_jobs.id"), primary_key=True),
    sa.Column("digest", sa.String(64), sa.ForeignKey("vaesvc_data_sets.digest"), primary_key=True),
    sa.Index("vaesvc_job_data_digest", "digest"),
)
