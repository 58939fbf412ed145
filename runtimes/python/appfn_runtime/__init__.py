"""HTTP server of the Python runtime: open-runtimes protocol v2, up before the user's code arrives.

None of its values are dataclasses: to import what makes those takes a fifth of the whole start.
"""
