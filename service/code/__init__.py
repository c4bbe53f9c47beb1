"""Code of users' own: packages with parts, which the jobs that name them import, on every node exactly the same."""
