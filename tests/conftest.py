"""Settings of every test."""

from hypothesis import settings

# Machines are shared: how long an example takes says nothing about the code.
settings.register_profile("appfn", deadline=None, print_blob=True)
settings.load_profile("appfn")
