"""Models that do worse than to fail: they end the process that runs them, or never end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from components.bundle import MODEL_FILE
from components.endpoint.files import WantedModel, write_desired
from serving.loaded import ModelRejected
from serving.trial import try_out
from tests.serving.conftest import swap_network

MODEL = "confluence-single-stack"


def ending_the_process(given: WantedModel) -> WantedModel:
    """Let the network divide the lowest 64-bit integer by -1, which the processor answers with SIGFPE."""
    path = Path(given.path) / MODEL_FILE
    network = onnx.load(path)
    network.graph.node.insert(0, helper.make_node("Div", ["lowest", "minus_one"], ["quotient"]))
    network.graph.node.insert(0, helper.make_node("Sub", ["zero", "one"], ["minus_one"]))
    network.graph.node.insert(0, helper.make_node("Cast", ["sum_of_nothing"], ["zero"], to=TensorProto.INT64))
    network.graph.node.insert(0, helper.make_node("ReduceSum", ["none"], ["sum_of_nothing"], keepdims=0))
    network.graph.node.insert(0, helper.make_node("Mul", ["images", "nought"], ["none"]))
    for name, value in {"lowest": np.int64(-(2**63)), "one": np.int64(1), "nought": np.float32(0)}.items():
        network.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    network.graph.output.append(helper.make_tensor_value_info("quotient", TensorProto.INT64, []))
    return swap_network(given, network.SerializeToString())


def never_ending(given: WantedModel) -> WantedModel:
    """Let the network count to 2^62 before it answers."""
    path = Path(given.path) / MODEL_FILE
    network = onnx.load(path)
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["still"]), helper.make_node("Relu", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    network.graph.node.append(helper.make_node("Loop", ["turns", "yes", "start"], ["counted"], body=body))
    for name, value in {"turns": np.int64(2**62), "yes": np.bool_(True), "start": np.float32(1)}.items():
        network.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    network.graph.output.append(helper.make_tensor_value_info("counted", TensorProto.FLOAT, []))
    return swap_network(given, network.SerializeToString())


def test_a_model_that_ends_its_process_is_rejected(wanted: Callable[..., WantedModel]) -> None:
    with pytest.raises(ModelRejected, match="it ends the process that loads and asks it, with SIGFPE"):
        try_out(MODEL, ending_the_process(wanted("2")), 1)


def test_a_model_that_never_ends_is_rejected(wanted: Callable[..., WantedModel]) -> None:
    with pytest.raises(ModelRejected, match="it was not loaded and asked within 4 s"):
        try_out(MODEL, never_ending(wanted("2")), 1, seconds=4)


@pytest.mark.parametrize("frozen", [False, True], ids=["sound", "refused"])
def test_what_ends_by_itself_passes(wanted: Callable[..., WantedModel], frozen: bool) -> None:
    try_out(MODEL, wanted("2", frozen_batch=frozen), 1)


def test_the_endpoint_outlives_it_and_what_served_serves_on(
    tmp_path: Path, serve: Any, wanted: Callable[..., WantedModel], png: Callable[..., bytes]
) -> None:
    deadly = ending_the_process(wanted("2"))
    write_desired(tmp_path, {MODEL: deadly})
    with serve(tmp_path) as endpoint:
        status = endpoint.wait(lambda found: MODEL in found.models and found.models[MODEL].state == "failed")
        assert not status.ready
        assert "SIGFPE" in endpoint.http.get("/v2/health/ready").json()["error"]
        endpoint.deploy(confluence_single_stack=wanted("1"))
        assert endpoint.deploy(confluence_single_stack=deadly).models[MODEL].version == "1"
        assert endpoint.predict(png()).json()["predictions"][0]["model_version"] == "1"
