"""The HTTP service: executes functions, keeps executions and artifacts, speaks the Appwrite API."""
