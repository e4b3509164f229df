"""Imports what an image's processes import, so that Python keeps the bytecode of that and of nothing else.

usage: warm.py control|train|predict

An image cannot keep any later, as its file system is read-only; and without it MLflow alone takes five seconds more
to start. Bytecode of everything would make the images larger by a third.
"""

import importlib
import sys

STEPS = ("boto3", "kfp.dsl.executor_main", "mlflow.tracking", "mlflow.store.artifact.s3_artifact_repo", "onnx")
STEPS += ("onnxruntime", "pydantic_settings", "scipy.optimize", "sklearn.metrics", "sqlalchemy.dialects.postgresql")
SERVED = ("boto3", "kserve", "kserve.protocol.grpc.servicer", "onnxruntime", "prometheus_client", "pydantic_settings")
PEOPLE = ("kfp.compiler", "kfp.kubernetes", "matplotlib.figure", "rich.progress")
TRACKER = ("mlflow.cli", "mlflow.server", "mlflow.server.handlers", "mlflow.store.tracking.sqlalchemy_store")
IMPORTED = {
    "control": (*STEPS, *PEOPLE, *TRACKER, *SERVED),
    "train": (*STEPS, "optuna", "safetensors.torch", "torch.distributed.run", "torch.onnx", "onnxscript"),
    "predict": SERVED,
}


if __name__ == "__main__":
    for name in IMPORTED[sys.argv[1]]:
        importlib.import_module(name)
