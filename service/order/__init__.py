"""What users change of the line after they submitted: calls of the API, and of the client."""
