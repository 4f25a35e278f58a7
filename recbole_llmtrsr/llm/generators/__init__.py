"""Language models that write texts: on this machine and behind a server."""
