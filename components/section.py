"""What every section of the settings is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of the settings' sections: frozen, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")
