"""Alembic's environment and the versions, packaged, run by `Store.migrate()`."""
