import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelInferRequest

from serving.answers import encode_v2
from serving.protocol import GrpcBody, V1Body, V2Body
from serving.refusals import Refusal, TooLarge

PNG = b"\x89PNG\r\n\x1a\n and so on"
MOST = 3
MODEL = "confluence-single-stack"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def v1(*instances: Any) -> V1Body:
    return V1Body(json.dumps({"instances": instances}).encode())


def v2(*data: Any, shape: Any = None, raw: bytes = b"", json_length: str | None = None, **request: Any) -> V2Body:
    tensor = {"name": "image", "datatype": "BYTES", "shape": shape or [len(data)], "data": data}
    text = json.dumps({"inputs": [tensor], **request}).encode()
    return V2Body(text + raw, json_length)


def asking_for_binary(flag: bytes) -> V2Body:
    image = b64(PNG).encode()
    tensor = b'{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["%s"]}' % image
    return V2Body(b'{"parameters": {"binary_data_output": %s}, "inputs": [%s]}' % (flag, tensor))


def binary(*images: bytes, size: Any = None, json_length: str | None = None) -> V2Body:
    raw = bytes_tensor(*images)
    parameters = {"binary_data_size": len(raw) if size is None else size}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)], "parameters": parameters}
    text = json.dumps({"inputs": [tensor]}).encode()
    return V2Body(text + raw, json_length or str(len(text)))


def bytes_tensor(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def grpc(*contents: bytes, raw: tuple[bytes, ...] = (), name: str = "image", shape: Any = None) -> GrpcBody:
    request = ModelInferRequest(model_name="m", raw_input_contents=raw)
    tensor = request.inputs.add(name=name, datatype="BYTES", shape=shape or [len(contents) or 1])
    tensor.contents.bytes_contents.extend(contents)
    return GrpcBody(request)


@pytest.mark.parametrize(
    "body",
    [
        v1({"image": {"b64": b64(PNG)}}, {"image": {"b64": b64(b"2")}}),
        v1({"b64": b64(PNG)}, {"b64": b64(b"2")}),
        v1({"image": b64(PNG)}, {"image": b64(b"2"), "name": "unknown fields are for others"}),
        v1({"b64": "\n".join(b64(PNG))}, {"b64": b64(b"2")}),
        v2(b64(PNG), b64(b"2")),
        v2([b64(PNG)], [b64(b"2")], shape=[2, 1]),
        binary(PNG, b"2"),
        grpc(PNG, b"2"),
        grpc(b64(PNG).encode(), b"2"),
        grpc(raw=(bytes_tensor(PNG, b"2"),), shape=[2]),
    ],
    ids=["v1", "v1 short", "v1 text", "v1 lines", "v2", "v2 nested", "v2 binary", "grpc", "grpc base64", "grpc raw"],
)
def test_every_protocol_gives_the_same_images(body: Any) -> None:
    assert body.images(MOST).images == [PNG, b"2"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (V1Body(b""), "the body is empty; send {"),
        (V1Body(b"{"), "the body is not JSON"),
        (V1Body(b'{"instances": "\xff"}'), "the body is not JSON|does not fit"),
        (V1Body(b"[" * 200_000), "the body"),
        (V1Body(b'{"instances": ' + b"[" * 200_000), "the body"),
        (V1Body(b"[]"), "Expected `object`, got `array`; send {"),
        (V1Body(b"{}"), "missing required field `instances`; send {"),
        (V1Body(b'{"instances": {}}'), "Expected `array`, got `object`"),
        (v1(), "holds no instances; send at least one image"),
        (v1(7), r"got `int` - at `\$.instances\[0\]`"),
        (v1({}), "instance 1 has no image; send {"),
        (v1({"image": {"b64": b64(PNG)}}, {"imgae": {"b64": b64(PNG)}}), "instance 2 has no image"),
        (v1({"image": {"b64": 5}}), "got `int`"),
        (v1({"image": {}}), "missing required field `b64`"),
        (v1({"b64": "not base64!"}), "instance 1 is not base64"),
        (v1({"b64": "é"}), "instance 1 is not base64"),
        (v1({"b64": "data:image/png;base64," + b64(PNG)}), "instance 1 is a data URL; send only the base64"),
        (V2Body(b"{}"), "missing required field `inputs`"),
        (V2Body(b'{"inputs": []}'), "the inputs are none; the model takes a tensor named 'image'"),
        (V2Body(b'{"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [""]}]}'), "the inputs are 'x'"),
        (V2Body(b'{"inputs": [{"name": "image", "shape": [1], "datatype": "FP32"}]}'), "datatype 'FP32'; it must be"),
        (V2Body(b'{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES"}]}'), "has no data; send"),
        (V2Body(b'{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [NaN]}]}'), "not JSON"),
        (v2(1.5), "Expected `str | array`, got `float`"),
        (v2(b64(PNG), shape=[2]), r"the shape \[2\] does not fit 1 images; it must be \[1\]"),
        (v2(b64(PNG), shape=[-1]), "does not fit"),
        (v2(b64(PNG), shape=[10**18] * 1000), "does not fit"),
        (v2(b64(PNG), shape=[1, 1, 1]), "does not fit"),
        (v2(shape=[0]), "holds no images"),
        (v2(b64(PNG), raw=b"tail"), "not JSON"),
        (v2(b64(PNG), json_length="nine"), "Inference-Header-Content-Length is 'nine'"),
        (v2(b64(PNG), json_length="9" * 5000), "Inference-Header-Content-Length is '99999"),
        (v2(b64(PNG), json_length="-1"), "Inference-Header-Content-Length is '-1'"),
        (binary(PNG, size=3), "binary_data_size is 3, but"),
        (binary(PNG, size="many"), "binary_data_size is many, but"),
        (asking_for_binary(b'"false"'), "the parameter binary_data_output is 'false'; it must be true or false"),
        (grpc(PNG, name="pixels"), "the inputs are 'pixels'"),
        (grpc(PNG, shape=[4]), "does not fit 1 images"),
        (grpc(PNG, raw=(bytes_tensor(PNG),)), "give the images once"),
        (grpc(raw=(bytes_tensor(PNG), b"")), "give the images once"),
        (grpc(raw=(b"\x01",)), "ends within a length"),
        (grpc(raw=(b"\xff\xff\xff\xff1",)), "an element of 4294967295 bytes does not fit into the 1"),
        (GrpcBody(ModelInferRequest()), "the inputs are none"),
    ],
)
def test_a_body_that_cannot_be_used_is_refused_with_what_to_mend(body: Any, message: str) -> None:
    with pytest.raises(Refusal, match=message) as caught:
        body.images(MOST)
    assert caught.value.status == 400
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("body", [v1(*[{"b64": b64(PNG)}] * 4), v2(*[b64(PNG)] * 4), grpc(*[PNG] * 4)])
def test_more_images_than_allowed_are_refused(body: Any) -> None:
    with pytest.raises(TooLarge, match="holds 4 images, more than 3"):
        body.images(MOST)


def test_a_request_keeps_its_id_and_gets_one_where_it_has_none() -> None:
    assert v2(b64(PNG), id="42").images(MOST).request_id == "42"
    assert v2(b64(PNG)).images(MOST).request_id != v2(b64(PNG)).images(MOST).request_id != ""


def test_an_output_that_does_not_exist_is_refused(prediction: Any) -> None:
    images = v2(b64(PNG), outputs=[{"name": "boxes"}]).images(MOST)
    with pytest.raises(Refusal, match="no output 'boxes'; ask for prediction, class, probabilities"):
        encode_v2(MODEL, "1", images, [prediction])


@pytest.mark.parametrize("outputs", [["class"], ["probabilities", "class"]])
def test_the_outputs_asked_for_are_given(prediction: Any, outputs: list[str]) -> None:
    images = v2(b64(PNG), outputs=[{"name": name} for name in outputs]).images(MOST)
    content, _ = encode_v2(MODEL, "1", images, [prediction]).to_rest()
    assert [output["name"] for output in content["outputs"]] == outputs


@given(st.binary(max_size=200))
def test_any_bytes_are_either_a_tensor_or_refused(raw: bytes) -> None:
    try:
        images = grpc(raw=(raw,), shape=[1]).images(MOST).images
    except Refusal:
        return
    assert len(images) == 1


@given(st.lists(st.binary(min_size=1, max_size=20).map(lambda data: b"\xff" + data), min_size=1, max_size=3))
def test_a_tensor_of_raw_bytes_gives_them_back(elements: list[bytes]) -> None:
    assert grpc(raw=(bytes_tensor(*elements),), shape=[len(elements)]).images(MOST).images == elements


@given(st.binary(max_size=300))
def test_any_body_is_either_read_or_refused(body: bytes) -> None:
    for kind in (V1Body, V2Body):
        with pytest.raises(Refusal):
            kind(body).images(MOST)
