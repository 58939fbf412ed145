"""The words in which models are written down: fields, and what they hold."""

from dataclasses import dataclass, replace
from enum import Enum


class Shape(Enum):
    """What a field holds, in JSON's words."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    LARGE = "large"
    """An integer that may need more than 32 bits, which is all that GraphQL's have."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a model; never null.

    Attributes:
        name: on the wire.
        holds: a shape, or the name of a model.
        about: one sentence for people.
        many: whether it is a list of them.
        choices: the only strings there are, where not empty.
        always: whether it is there in every model.
    """

    name: str
    holds: Shape | str
    about: str
    many: bool = False
    choices: tuple[str, ...] = ()
    always: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model.

    Attributes:
        name: as SDKs call it.
        fields: of the current format.
        older: those that formats before it have instead, which GraphQL clients may still select.
    """

    name: str
    fields: tuple[Field, ...]
    older: tuple[Field, ...] = ()


def text(name: str, about: str, *choices: str) -> Field:
    """Return a field that holds a string."""
    return Field(name, Shape.STRING, about, choices=choices)


def texts(name: str, about: str) -> Field:
    """Return a field that holds strings."""
    return Field(name, Shape.STRING, about, many=True)


def whole(name: str, about: str) -> Field:
    """Return a field that holds an integer."""
    return Field(name, Shape.INTEGER, about)


def flag(name: str, about: str) -> Field:
    """Return a field that holds true or false."""
    return Field(name, Shape.BOOLEAN, about)


def page(name: str, of: str, many: str) -> Model:
    """Return the model of a list."""
    counted = whole("total", f"How many {many} match, on all pages.")
    return Model(name=name, fields=(counted, Field(many, of, f"Those {many} that are on this page.", many=True)))


def sometimes(field: Field) -> Field:
    """Return a field that is not always there."""
    return replace(field, always=False)
