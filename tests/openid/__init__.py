"""A real provider of logins for tests, and somebody who uses its pages."""
