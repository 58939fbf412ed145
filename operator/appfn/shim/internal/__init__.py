"""The API for appfn's own parts: the operator, the agents of builds, the triggers of schedules.

Callers are known by their ServiceAccount tokens; what each may do is fixed here, RBAC has no part in it.
"""
