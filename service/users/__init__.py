"""Users, their tokens and the audit log: the API's calls and the client's side of them."""
