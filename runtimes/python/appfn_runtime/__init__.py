"""HTTP server of the Python runtime: open-runtimes protocol v2, up before the user's code arrives."""
