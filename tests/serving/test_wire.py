import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kserve.protocol.grpc.grpc_predict_v2_pb2 import InferTensorContents, ModelInferRequest

from serving.protocol import V1Body, V2Body
from serving.refusals import TooLarge
from serving.wire import MOST_VALUES, read_message

MANY = 2_000_000


def field(message: Any, name: str, payload: bytes) -> bytes:
    """A field of bytes, a text, a message or packed numbers, as it is on the wire."""
    length, number = b"", len(payload)
    while number > 127:
        length, number = length + bytes([number & 127 | 128]), number >> 7
    return bytes([message.DESCRIPTOR.fields_by_name[name].number << 3 | 2]) + length + bytes([number]) + payload


TENSOR = ModelInferRequest.InferInputTensor
BOMBS = {
    "tensors": field(ModelInferRequest, "inputs", b"") * MANY,
    "outputs": field(ModelInferRequest, "outputs", b"") * MANY,
    "raw contents": field(ModelInferRequest, "raw_input_contents", b"") * MANY,
    "a shape": field(ModelInferRequest, "inputs", field(TENSOR, "shape", b"\1" * MANY)),
    "elements": field(
        ModelInferRequest,
        "inputs",
        field(TENSOR, "contents", field(InferTensorContents, "bytes_contents", b"") * MANY),
    ),
    "numbers": field(
        ModelInferRequest, "inputs", field(TENSOR, "contents", field(InferTensorContents, "fp32_contents", bytes(MANY)))
    ),
    "in a group": b"\x0b" + field(ModelInferRequest, "inputs", b"") * MANY,
    "behind what is broken": field(ModelInferRequest, "inputs", b"\x0a\xff") * MANY,
}
JSON_BOMBS = {
    "instances": V1Body(b'{"instances": [' + b"{}," * MANY + b"{}]}"),
    "elements": V2Body(
        b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [' + b"[]," * MANY + b"[]]}]}"
    ),
    "parameters": V2Body(b'{"inputs": [], "parameters": {"a": [' + b"[]," * MANY + b"[]]}}"),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_message_of_too_many_values_is_refused_before_it_is_read(data: bytes) -> None:
    with pytest.raises(TooLarge, match=f"more than {MOST_VALUES} values; send an image as the bytes of its file"):
        read_message(ModelInferRequest.FromString, data)


@pytest.mark.parametrize("body", JSON_BOMBS.values(), ids=JSON_BOMBS)
def test_json_of_too_many_values_is_refused_before_it_is_read(body: V1Body | V2Body) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=f"more than {MOST_VALUES} values"):
            body.images(3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_base64_of_spaces_takes_no_more_memory_than_its_text() -> None:
    body = V1Body(b'{"instances": [{"b64": "' + b"AA " * (MANY // 2) + b'"}]}')
    tracemalloc.start()
    try:
        (image,) = body.images(3).images
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert image == bytes(len("AA") * (MANY // 2) * 3 // 4)
    assert peak < 4 * len(body.body)


def test_a_large_image_is_one_value() -> None:
    message = ModelInferRequest(model_name="m", raw_input_contents=[b"," * MANY])
    message.inputs.add(name="image", datatype="BYTES", shape=[1]).contents.bytes_contents.append(bytes(MANY))
    assert read_message(ModelInferRequest.FromString, message.SerializeToString()) == message


@given(
    st.builds(
        ModelInferRequest,
        model_name=st.text(max_size=20),
        id=st.text(max_size=20),
        raw_input_contents=st.lists(st.binary(max_size=50), max_size=5),
        inputs=st.lists(
            st.builds(
                TENSOR,
                name=st.text(max_size=9),
                shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9),
                contents=st.builds(
                    InferTensorContents,
                    bytes_contents=st.lists(st.binary(max_size=30), max_size=5),
                    fp64_contents=st.lists(st.floats(allow_nan=False), max_size=5),
                    int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
                ),
            ),
            max_size=4,
        ),
    )
)
def test_what_clients_send_is_read_as_it_was(message: ModelInferRequest) -> None:
    assert read_message(ModelInferRequest.FromString, message.SerializeToString()) == message
