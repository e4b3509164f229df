"""MLflow: ``python mlflow_app.py BUNDLE MODEL`` saves a model, which ``mlflow models serve`` serves.

A request is ``{"inputs": ["base64"]}``. The same file is the model's code, which MLflow runs when it loads it.
"""

import base64
import os
import sys
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel, PythonModelContext
from predictor import Predictor


class Confluence(PythonModel):
    def load_context(self, context: PythonModelContext) -> None:
        self.predictor = Predictor(os.environ["BENCHMARK_BUNDLE"])

    def predict(self, context: PythonModelContext, model_input: list[str], params: Any = None) -> list[dict[str, Any]]:
        return [self.predictor.answer(base64.b64decode(image)) for image in model_input]


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[2], python_model=__file__, pip_requirements=[])
else:
    mlflow.models.set_model(Confluence())
