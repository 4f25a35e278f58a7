"""Text generation with a local model or a server."""
