"""Messages of gRPC that are wrong in their bytes or in their fields."""

import base64
import random
import struct

from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages

from tests.fuzz.bodies import NAMES
from tests.fuzz.damage import damaged

SERVICE = "/inference.GRPCInferenceService"
INFER = f"{SERVICE}/ModelInfer"
KINDS = ("BYTES", "FP32", "bytes", "", "UINT8", "x" * 3000)
SHAPES = ((), (0,), (-1,), (2**62,), (1, 1), (1, 1, 1), (3, 224, 224), (1,) * 1000, (2,), (-(2**63),))


def valid_message(rng, model, images):
    """Give a request with raw bytes or base64 text, in either of the two places for it."""
    message = messages.ModelInferRequest(model_name=model, id=rng.choice(("", "7")))
    tensor = message.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    elements = images if rng.random() < 0.7 else [base64.b64encode(image) for image in images]
    raw = rng.random() < 0.5
    if raw:
        message.raw_input_contents.append(_packed(elements))
    else:
        tensor.contents.bytes_contents.extend(elements)
    if model == "culture" and rng.random() < 0.5:
        message.parameters["modality"].string_param = "single_stack"
    elif model == "culture":
        modality = message.inputs.add(name="modality", datatype="BYTES", shape=[len(images)])
        words = [b"multi_stack"] * len(images)
        if raw:
            message.raw_input_contents.append(_packed(words))
        else:
            modality.contents.bytes_contents.extend(words)
    return message


def _packed(elements):
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def odd_message(rng: random.Random, model: str, images: list[bytes]) -> tuple[str, bytes, str]:
    """Give the name of what is odd, the message and the path of the call."""
    message = valid_message(rng, model, images)
    what = rng.choice((field, field, bytes_of, raw_contents, other_call, wire))
    return what.__name__.replace("_", " "), *what(rng, message)


def field(rng, message):
    """Fields whose values do not fit."""
    for _ in range(rng.choice((1, 1, 2))):
        if message.inputs:
            rng.choice(_changes(rng, message, rng.choice(message.inputs)))()
    return message.SerializeToString(), INFER


def _changes(rng, message, tensor):
    text = "x" * 3000
    return (
        lambda: setattr(tensor, "name", rng.choice(NAMES)),
        lambda: setattr(tensor, "datatype", rng.choice(KINDS)),
        lambda: _replace(tensor.shape, rng.choice(SHAPES)),
        lambda: setattr(message, "model_name", rng.choice(NAMES)),
        lambda: setattr(message, "model_version", rng.choice(("1", "99", text))),
        lambda: setattr(message, "id", text * 20),
        lambda: tensor.contents.int_contents.extend(range(rng.choice((1, 5000)))),
        lambda: tensor.contents.fp32_contents.extend([float("nan"), float("inf")]),
        lambda: tensor.contents.bytes_contents.append(rng.randbytes(rng.choice((0, 50)))),
        lambda: message.inputs.add().CopyFrom(tensor),
        lambda: message.inputs.extend([tensor] * 50),
        lambda: message.ClearField("inputs"),
        lambda: message.outputs.add(name=rng.choice(NAMES)),
        lambda: [message.outputs.add(name="prediction") for _ in range(500)],
        lambda: setattr(message.parameters["modality"], "string_param", rng.choice(("", "stack", text))),
        lambda: setattr(message.parameters["modality"], "int64_param", -1),
        lambda: setattr(tensor.parameters["binary_data_size"], "int64_param", 2**62),
    )


def _replace(shape, values):
    del shape[:]
    shape.extend(values)


def bytes_of(rng, message):
    return damaged(rng, message.SerializeToString())[1], INFER


def raw_contents(rng, message):
    """Raw tensors whose parts do not fit together, or of which there are too many or too few."""
    for tensor in message.inputs:
        tensor.ClearField("contents")
    packed = message.raw_input_contents[0] if message.raw_input_contents else _packed([b"x"])
    odd = damaged(rng, packed)[1]
    del message.raw_input_contents[:]
    message.raw_input_contents.extend(
        rng.choice(([], [odd], [odd, odd], [packed] * 3, [b""], [struct.pack("<I", 2**32 - 1)]))
    )
    return message.SerializeToString(), INFER


def other_call(rng, message):
    """Calls that there are not, that are closed, or that take another message."""
    name = rng.choice((message.model_name, *NAMES))
    data = rng.choice((messages.ModelReadyRequest(name=name).SerializeToString(), rng.randbytes(20), b""))
    calls = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "RepositoryModelLoad")
    paths = [f"{SERVICE}/{call}" for call in (*calls, "RepositoryModelUnload", "RepositoryIndex", "Nothing", "")]
    return data, rng.choice(
        (*paths, "/other.Service/Call", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    )


def wire(rng, message):
    """What protobuf's own encoding allows to go wrong: texts that are not UTF-8, groups, endless numbers, nesting."""
    data = message.SerializeToString()
    odd = (
        *(b"\x0a\x02\xff\xfe" + data, b"\x80" * 11 + data, b"\x0b" * 200, b"\x0f" + data, b"\x0a\xff\xff\xff\xff\x0f"),
        *(data + data, b"\x2a\x80\x80\x80\x80\x10" + data, b"\xf8\xff\xff\xff\x0f\x01" + data, b"\x0c" + data),
        *(b"\xc3\x3e" * 5000 + data, b"\x2a\0" * 100_000 + data, b"\x3a\0" * 100_000 + data),
    )
    return rng.choice(odd), INFER
