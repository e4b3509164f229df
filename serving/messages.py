"""What bodies over REST hold, as types; those of predictions are in ``components.endpoint.prediction``."""

from typing import Any, Literal

import msgspec

Parameters = dict[str, bool | int | float | str]


class Alive(msgspec.Struct):
    """The process runs."""

    status: Literal["alive"]


class Live(msgspec.Struct):
    """The process runs."""

    live: Literal[True]


class Ready(msgspec.Struct):
    """The endpoint can answer."""

    ready: Literal[True]


class ModelReady(msgspec.Struct):
    """A model can answer."""

    name: str
    ready: Literal[True]


class Server(msgspec.Struct):
    """Which server this is."""

    name: str
    version: str
    extensions: list[str]


class Models(msgspec.Struct):
    """Names of the models that are served, ready or not."""

    models: list[str]


class Version(msgspec.Struct):
    """A version of a model that answers.

    Attributes:
        digest: The model's digest, which fixes every byte of it.
        data_version: Data version that the model was trained on.
        modality: How the vessels are built whose images it was made for.
    """

    version: str
    digest: str
    data_version: str
    modality: str


class ClassifierVersion(Version):
    """A version of a model that tells the confluence.

    Attributes:
        classes: Names of its classes.
    """

    classes: list[str]


class DetectorVersion(Version):
    """A version of a model that finds abnormal cells.

    Attributes:
        positive: Labels of the cells that it finds.
        min_score: Score from which on a cell is given out.
    """

    positive: list[str]
    min_score: float


class Classifier(ClassifierVersion):
    """A model that tells the confluence, and the version of it that answers."""

    name: str
    ready: Literal[True]


class Detector(DetectorVersion):
    """A model that finds abnormal cells, and the version of it that answers."""

    name: str
    ready: Literal[True]


class Culture(msgspec.Struct):
    """All models together, and the versions of them that answer.

    Attributes:
        version: Versions of its models, in one text.
        models: Version of each of its models, by name.
    """

    name: str
    ready: Literal[True]
    version: str
    models: dict[str, Any]


class TensorType(msgspec.Struct):
    """A tensor that a model takes or gives; -1 stands for any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct):
    """The v2 protocol's description of a model."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorType]
    outputs: list[TensorType]


class Base64(msgspec.Struct):
    """An image file.

    Attributes:
        b64: Its bytes as base64 text.
    """

    b64: str


class Instance(msgspec.Struct):
    """An image of a v1 request; either ``image`` or ``b64`` is there.

    Attributes:
        image: The image file; where it is a text, its bytes as base64.
        b64: Bytes of the image file as base64 text.
        modality: How the vessel is built; the model culture must know.
    """

    image: Base64 | str | None = None
    b64: str | None = None
    modality: str | None = None


class CultureInstance(Instance, kw_only=True):
    """An image of a v1 request for the model culture; either ``image`` or ``b64`` is there."""

    modality: str


class V1Request(msgspec.Struct):
    """Images to answer for, in the v1 protocol."""

    instances: list[Instance]


class InputTensor(msgspec.Struct):
    """An input of a v2 request.

    Attributes:
        shape: Number of elements N: [N] or [N, 1].
        data: The elements: base64 text of image files, or modalities.
        parameters: binary_data_size is the number of bytes behind the JSON, where there are no data in it.
    """

    name: str
    shape: list[int]
    datatype: str
    data: list[str | list[str]] | None = None
    parameters: dict[str, Any] = {}


class WantedOutput(msgspec.Struct):
    """An output tensor that the answer is to hold.

    Attributes:
        parameters: binary_data asks for raw bytes behind the JSON.
    """

    name: str
    parameters: dict[str, Any] = {}


class V2Request(msgspec.Struct):
    """Images to answer for, in the v2 protocol.

    Attributes:
        id: Comes back with the answer; made up where there is none.
        inputs: The tensor image, and for the model culture one named modality, unless parameters name it.
        parameters: binary_data_output asks for raw bytes behind the JSON; modality tells how the vessels are built.
        outputs: Tensors that are wanted; all, where none is named.
    """

    inputs: list[InputTensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[WantedOutput] | None = None


class OutputTensor(msgspec.Struct):
    """An output of a v2 answer."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES", "INT32", "FP32"]
    data: list[Any]
    parameters: Parameters = {}


class V2Answer(msgspec.Struct):
    """Answers as tensors: ``prediction`` holds each as JSON text, the others some of its parts as numbers."""

    id: str
    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    parameters: Parameters = {}


class Error(msgspec.Struct):
    """Why there is no answer.

    Attributes:
        error: A sentence that names what is wrong, then what to do.
        reason: A word for programs.
    """

    error: str
    reason: str
