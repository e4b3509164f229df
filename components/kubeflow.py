"""Where Kubeflow Pipelines answers, and how long it is waited for."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from components.section import Section

OwnFile = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class KubeflowSettings(Section):
    """The API of Kubeflow Pipelines; tokens and cookies come from files and the environment, never from here."""

    url: str = Field("", description="of the API, such as https://kubeflow.example.org/pipeline")
    ui: str = Field("", description="of the pages that a person opens; default: the same as url")
    token_file: OwnFile | None = Field(None, description="file of the token that the API asks for; read anew each time")
    ca: OwnFile | None = Field(None, description="PEM file of the authority that signed the API's certificate")
    experiment: str = Field("mscflow", min_length=1, description="that runs are listed under")
    timeout: float = Field(60.0, gt=0, description="seconds that one answer may take")
    patience: float = Field(300.0, gt=0, description="seconds over which an API that is away is asked again")
    interval: float = Field(5.0, gt=0, description="seconds between two looks at a run")

    @field_validator("url", "ui")
    @classmethod
    def _is_of_the_web(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("give it as http://... or https://...")
        return url.rstrip("/")
