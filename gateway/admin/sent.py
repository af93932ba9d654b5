"""What people and CD systems send to the admin listener."""

from pydantic import BaseModel, field_validator


class Sent(BaseModel):
    """A body of a request; its texts are ones that can be written again."""

    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: object) -> object:
        """Refuse half a surrogate pair, which JSON can escape and no UTF-8 can hold."""
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError("it holds half a surrogate pair") from None
        return value
