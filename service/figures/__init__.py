"""The service in numbers: for Prometheus, and what users have used of the cluster."""
