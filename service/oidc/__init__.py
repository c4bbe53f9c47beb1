"""Login by any OpenID Connect provider, for MLflow's pages and the command line; it ends in a token of the service."""
