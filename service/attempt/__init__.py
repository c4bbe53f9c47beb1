"""One attempt of a job on the cluster: claim, lease, log, driver, checkpoints, the end."""
