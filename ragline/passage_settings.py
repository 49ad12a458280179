"""How large passages are, for everybody and for a tenant."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

_PASSAGE_BOUNDS: Any = {"ge": 32, "le": 8000}


class TenantPassages(BaseModel):
    """What is otherwise for one tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_tokens: int | None = Field(default=None, **_PASSAGE_BOUNDS)
    max_tokens: int | None = Field(default=None, **_PASSAGE_BOUNDS)


class PassageSettings(BaseModel):
    """How large the passages of new versions are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_tokens: int = Field(default=220, description="about so many tokens has a passage", **_PASSAGE_BOUNDS)
    max_tokens: int = Field(
        default=400, description="never more; no more than the embedding model takes", **_PASSAGE_BOUNDS
    )
    tenants: dict[str, TenantPassages] = Field(
        default={}, description="by the tenant's name; what is not given is as above"
    )

    @model_validator(mode="after")
    def _targets_fit(self) -> PassageSettings:
        for name in (None, *self.tenants):
            target, most = self.of(name)
            if target > most:
                where = "" if name is None else f"tenants.{name}."
                raise ValueError(f"{where}target_tokens: at most max_tokens, which is {most} (got {target})")
        return self

    def of(self, tenant: str | None) -> tuple[int, int]:
        """Target and maximum for the tenant of this name."""
        own = self.tenants.get(tenant or "", TenantPassages())
        return own.target_tokens or self.target_tokens, own.max_tokens or self.max_tokens
