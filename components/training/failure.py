"""The word that a failed training leaves for whoever started it, beside its job."""

import json

from components import errors
from components.errors import MscflowError, SettingsError, TrainingError


def encode_failure(error: MscflowError) -> bytes:
    """Give an error as it is left."""
    return json.dumps({"error": type(error).__name__, "message": str(error)}).encode()


def decode_failure(content: bytes) -> MscflowError:
    """Give the error that was left, to be raised again."""
    told = json.loads(content)
    kind = getattr(errors, told["error"], TrainingError)
    try:
        error: MscflowError = kind(told["message"])
    except TypeError:
        error = SettingsError(told["message"])
    return error
