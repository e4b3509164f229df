"""Requests that are malformed, over every protocol: a seed gives the same ones again.

v1, v2, v2 binary     a valid path, and a body that is wrong
image                 a valid request over any of the protocols, and an image that is odd
http                  what lies around a body: methods, paths, headers, lengths, encodings
grpc                  messages whose bytes or fields are wrong, methods that do not exist
frames                bytes that are no HTTP/2, or frames of it that are wrong, to the port of gRPC
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.fuzz.bodies import odd_json, v1_document, v2_binary, v2_document
from tests.fuzz.damage import damaged
from tests.fuzz.frames import FRAMES, odd_frames
from tests.fuzz.images import odd_image, valid_images
from tests.fuzz.messages import INFER, odd_message, valid_message
from tests.fuzz.requests import odd_request, posting

LENGTH_HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Case:
    """One request.

    Attributes:
        protocol: As above.
        mutation: What is wrong with it.
        data: All bytes of it: an HTTP request, or a message for gRPC.
        path: Of gRPC, and ``FRAMES`` for bytes that are sent as they are to its port; None for HTTP/1.1.
        cut: Whether the client stops in the middle, so that there may be no answer.
    """

    protocol: str
    mutation: str
    data: bytes
    path: str | None = None
    cut: bool = False


class Cases:
    """Makes requests.

    Args:
        seed: Gives the same requests again.
        models: Those that are asked.
    """

    def __init__(self, seed: int, models: tuple[str, ...]):
        self._rng = random.Random(seed)
        self._models = models
        self._images = valid_images()

    def take(self, count: int) -> Iterator[Case]:
        """Give so many requests, of all protocols in turn."""
        kinds = (self.v1, self.v2, self.v2_binary, self.image, self.http, self.grpc)
        for number in range(count):
            yield self.frames() if number % 50 == 49 else kinds[number % len(kinds)]()

    def _some(self):
        return self._rng.choices(self._images, k=self._rng.choice((1, 1, 2)))

    def _model(self):
        return self._rng.choice(self._models)

    def v1(self) -> Case:
        model = self._model()
        what, body = odd_json(self._rng, v1_document(self._rng, model, self._some()))
        return Case("v1", what, posting(f"/v1/models/{model}:predict", body))

    def v2(self) -> Case:
        model = self._model()
        what, body = odd_json(self._rng, v2_document(self._rng, model, self._some()))
        return Case("v2", what, posting(f"/v2/models/{model}/infer", body))

    def v2_binary(self) -> Case:
        model = self._model()
        document, raw = v2_binary(self._rng, model, self._some())
        text = json.dumps(document).encode()
        what = self._rng.choice(("json", "raw", "size", "header", "both"))
        said = str(len(text))
        if what == "json":
            _, text = odd_json(self._rng, document)
            said = str(len(text))
        elif what == "raw":
            _, raw = damaged(self._rng, raw)
        elif what == "size":
            document["inputs"][0]["parameters"]["binary_data_size"] = self._rng.choice(
                (0, -1, len(raw) - 1, len(raw) + 1, 2**31, 2**70, 1.5, float(len(raw)), True, None, "all", [], {})
            )
            text = json.dumps(document).encode()
            said = str(len(text))
        elif what == "header":
            numbers = (
                "0",
                "-1",
                str(len(text) - 1),
                str(len(text) + 1),
                str(2**64),
                "9" * 400,
                "1e3",
                "0x10",
                "",
                " 5",
            )
            said = self._rng.choice((*numbers, "all", "5, 6", "٣", str(len(text)) + ".0", "+" + str(len(text))))
        else:
            document["inputs"][0]["data"] = ["eHg="]
            text = json.dumps(document).encode()
        headers = ((LENGTH_HEADER, said.encode("utf-8")), ("Content-Type", b"application/octet-stream"))
        return Case("v2 binary", what, posting(f"/v2/models/{model}/infer", text + raw, headers))

    def image(self) -> Case:
        model, (what, image) = self._model(), odd_image(self._rng)
        images = [image] if self._rng.random() < 0.8 else [self._images[0], image]
        by = self._rng.choice(("v1", "v2", "v2 binary", "grpc"))
        if by == "grpc":
            return Case("image", what, valid_message(self._rng, model, images).SerializeToString(), INFER)
        if by == "v1":
            body = json.dumps(v1_document(self._rng, model, images)).encode()
            return Case("image", what, posting(f"/v1/models/{model}:predict", body))
        path = f"/v2/models/{model}/infer"
        if by == "v2":
            return Case("image", what, posting(path, json.dumps(v2_document(self._rng, model, images)).encode()))
        document, raw = v2_binary(self._rng, model, images)
        text = json.dumps(document).encode()
        return Case("image", what, posting(path, text + raw, ((LENGTH_HEADER, str(len(text)).encode()),)))

    def http(self) -> Case:
        model = self._model()
        body = json.dumps(v1_document(self._rng, model, self._some())).encode()
        return Case("http", *odd_request(self._rng, model, body))

    def grpc(self) -> Case:
        return Case("grpc", *odd_message(self._rng, self._model(), self._some()))

    def frames(self) -> Case:
        return Case("frames", *odd_frames(self._rng), FRAMES)
