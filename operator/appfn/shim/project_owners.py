"""Which namespace is which project."""

import logging
from collections import defaultdict
from datetime import datetime
from typing import Generic, TypeVar

P = TypeVar("P")
_logger = logging.getLogger(__name__)


class ProjectOwners(Generic[P]):
    """Projects by id and by namespace. The oldest that claims an id has it: a latecomer can't take it over."""

    def __init__(self) -> None:
        self._claims: defaultdict[str, dict[str, tuple[datetime, str]]] = defaultdict(dict)
        """Namespaces that claim an id, each with what it is ordered by."""
        self._ids: dict[str, str] = {}
        self._projects: dict[str, P] = {}

    def put(self, namespace: str, project_id: str, project: P, *, made: datetime) -> None:
        """Note that a namespace, made then, claims to be a project; instead of what it claimed before."""
        self.remove(namespace)
        self._ids[namespace] = project_id
        self._projects[namespace] = project
        self._claims[project_id][namespace] = made, namespace
        if len(self._claims[project_id]) > 1:
            _logger.warning("project id taken twice: the oldest namespace has it", extra={"project": project_id})

    def remove(self, namespace: str) -> None:
        """Note that a namespace claims nothing."""
        project_id = self._ids.pop(namespace, None)
        if project_id is None:
            return
        del self._projects[namespace]
        del self._claims[project_id][namespace]
        if not self._claims[project_id]:
            del self._claims[project_id]

    def owner(self, project_id: str) -> P | None:
        """Return the project of an id."""
        claims = self._claims.get(project_id)
        return self._projects[min(claims, key=claims.__getitem__)] if claims else None

    def of(self, namespace: str) -> P | None:
        """Return the project that a namespace is; None for one that isn't, or that came second with its id."""
        project = self._projects.get(namespace)
        return project if project is not None and self.owner(self._ids[namespace]) is project else None
