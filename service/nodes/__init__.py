"""Nodes of the cluster, for operators: what is where, and drains for the maintenance of a machine."""
