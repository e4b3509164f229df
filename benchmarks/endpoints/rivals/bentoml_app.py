"""BentoML: ``bentoml serve bentoml_app:Confluence``; a request is ``{"image": "base64"}``."""

import base64
import os
from typing import Any

import bentoml
from predictor import Predictor


@bentoml.service(
    workers=int(os.environ["BENCHMARK_WORKERS"]),
    traffic={"timeout": 120},
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
)
class Confluence:
    def __init__(self) -> None:
        self.predictor = Predictor(os.environ["BENCHMARK_BUNDLE"])

    @bentoml.api
    def predict(self, image: str) -> dict[str, Any]:
        return self.predictor.answer(base64.b64decode(image))
