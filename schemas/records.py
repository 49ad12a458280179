"""What every record's body has in common."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict


def may_gain_fields(schema: dict[str, Any]) -> None:
    """In a published schema: whoever reads by it ignores the fields that a later version adds."""
    schema.pop("additionalProperties", None)


class Body(BaseModel):
    """A record's JSON body. Frozen; producers cannot set unknown fields, `decode` ignores them.

    `ce_type` is the CloudEvents type, `ragline.<area>.<name>.v<n>`; a breaking change is a new one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=may_gain_fields)

    ce_type: ClassVar[str] = ""

    def key(self) -> str:
        """The partition key; records of one key keep their order."""
        raise TypeError(f"{type(self).__name__} is never published alone")

    def encode(self) -> bytes:
        """The JSON that stands in the record's value."""
        return self.__pydantic_serializer__.to_json(self)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Reads a value written by this or a later compatible version. Raises: pydantic.ValidationError."""
        return cls.model_validate_json(value, extra="ignore")
