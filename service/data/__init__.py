"""Users' own data sets in the service: brought, named, found at submit, and fetched where they are trained on."""
