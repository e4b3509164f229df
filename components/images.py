"""Names of the container images that the pipeline's components run in; on one machine none is needed."""

import os

VERSION = "0.1.0"
TRAIN = os.environ.get("MSCFLOW_TRAIN_IMAGE", f"mscflow/train-python:{VERSION}")
CONTROL = os.environ.get("MSCFLOW_CONTROL_IMAGE", f"mscflow/control-python:{VERSION}")
PREDICT = os.environ.get("MSCFLOW_PREDICT_IMAGE", f"mscflow/predict-python:{VERSION}")
