"""What the typed resources share: strict immutable models, metadata, parsing with paths.

pydantic does the work; its errors become `InvalidSpecError`, which names the path as a user wrote it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from appfn.api.kinds import Key
from appfn.errors import InvalidSpecError

Json = dict[str, Any]
"""A JSON object as the API server sends it or takes it."""


class Model(BaseModel):
    """Immutable value with camelCase names on the wire; fields it does not know are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    def to_json(self) -> Json:
        """Return the wire form, without fields that are unset (None)."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(Model):
    """Part of `metadata.ownerReferences` that appfn looks at."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class FieldsEntry(Model):
    """Part of an entry of `metadata.managedFields` that appfn looks at."""

    subresource: str = ""
    time: datetime | None = None


class ObjectMeta(Model):
    """Part of `metadata` that appfn looks at."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    owner_references: list[OwnerReference] = Field(default_factory=list)
    managed_fields: list[FieldsEntry] = Field(default_factory=list)

    @property
    def key(self) -> Key:
        """Address of the object within its kind."""
        return Key(self.namespace, self.name)

    @property
    def changed_at(self) -> datetime | None:
        """When what is not status was last changed; None where the object does not come from an API server."""
        times = [entry.time for entry in self.managed_fields if entry.time and not entry.subresource]
        return max(times, default=self.creation_timestamp)


class Resource(Model):
    """A custom resource. Subclasses add `spec` and `status`."""

    metadata: ObjectMeta

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        """Return the typed resource.

        Raises:
            InvalidSpecError: at the first field that cannot be understood, with its path.
        """
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"])
            raise InvalidSpecError(path, first["msg"]) from error
