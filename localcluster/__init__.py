"""A real Kubernetes for development and tests, made from packages alone.

Run as ``python3 -m localcluster`` from the repository's root; only the standard
library is needed, because it runs before any virtual environment exists.
"""
