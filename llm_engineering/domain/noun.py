from pydantic import BaseModel, ConfigDict


class Noun(BaseModel):
    """Plain data: never changes, never carries a surprise field, never saves itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
