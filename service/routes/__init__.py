"""Routes: read the request, ask, answer."""
