"""Typed resources of `appfn.dev/v1alpha1`: pure values, parsed from and written to the API's JSON."""
