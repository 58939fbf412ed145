"""Appwrite's REST API: one module per resource, and one table of what there is (`operation.py`)."""
