"""What the study's authors report: Tables 1 and 2, mean and standard deviation over five folds.

Source: Ngo, Lee et al., International Journal of Stem Cells, 2024. Their folds were cut by image and the
epoch was chosen on the fold that was scored, so that their figures are of the protocol ``published``.
"""

from components.culture import Modality

NAMES = {
    "alexnet": "AlexNet",
    "cover_net": "CoverNet",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "inception_v3": "InceptionV3",
    "mobilenet_v3": "MobileNetV3",
    "resnet50": "ResNet50",
    "shufflenet_v2": "ShuffleNetV2",
    "vit": "Vision Transformer",
}

MeanAndSd = tuple[float, float]
FIGURES = ("roc_auc_micro", "accuracy", "pr_auc_micro")
_SINGLE, _MULTI = Modality.SINGLE_STACK, Modality.MULTI_STACK

# By backbone: for each modality ROC AUC, accuracy and PR AUC.
_TABLE_1: dict[str, dict[Modality, tuple[MeanAndSd, MeanAndSd, MeanAndSd]]] = {
    "alexnet": {
        _SINGLE: ((0.949, 0.008), (0.863, 0.035), (0.879, 0.026)),
        _MULTI: ((0.751, 0.051), (0.525, 0.055), (0.494, 0.080)),
    },
    "inception_v3": {
        _SINGLE: ((0.958, 0.017), (0.928, 0.029), (0.923, 0.030)),
        _MULTI: ((0.937, 0.033), (0.850, 0.074), (0.839, 0.082)),
    },
    "resnet50": {
        _SINGLE: ((0.941, 0.009), (0.863, 0.038), (0.857, 0.032)),
        _MULTI: ((0.958, 0.015), (0.875, 0.045), (0.897, 0.034)),
    },
    "shufflenet_v2": {
        _SINGLE: ((0.915, 0.023), (0.766, 0.041), (0.816, 0.052)),
        _MULTI: ((0.892, 0.033), (0.765, 0.068), (0.751, 0.067)),
    },
    "mobilenet_v3": {
        _SINGLE: ((0.940, 0.014), (0.816, 0.108), (0.861, 0.041)),
        _MULTI: ((0.894, 0.034), (0.750, 0.098), (0.727, 0.084)),
    },
    "vit": {
        _SINGLE: ((0.948, 0.013), (0.809, 0.065), (0.867, 0.036)),
        _MULTI: ((0.616, 0.023), (0.380, 0.053), (0.341, 0.045)),
    },
}

# Abnormal cells, single-stack, RetinaNet on ResNet50, fold by fold.
HIT_RATES = (0.879, 0.968, 1.000, 0.923, 1.000)
FALSE_DISCOVERY_RATES = (0.0, 0.0, 0.0, 0.0, 0.0)


def label(backbone: str) -> str:
    """Give a backbone's name for people."""
    return NAMES.get(backbone, backbone)


def table_1(backbone: str, modality: Modality) -> dict[str, MeanAndSd]:
    """Give the authors' figures for a backbone and modality, by name; empty for a backbone that they did not use."""
    row = _TABLE_1.get(backbone, {}).get(modality)
    return dict(zip(FIGURES, row, strict=True)) if row else {}


def table_2(backbone: str) -> dict[str, tuple[float, ...]]:
    """Give the authors' figures of the detector on a backbone, fold by fold; empty for another than ResNet50."""
    if backbone != "resnet50":
        return {}
    return {"hit_rate": HIT_RATES, "false_discovery_rate": FALSE_DISCOVERY_RATES}
