"""LitServe: ``python litserve_app.py BUNDLE PORT WORKERS``; a request is ``{"image": "base64"}``."""

import base64
import sys
from typing import Any

import litserve
from predictor import Predictor


class Confluence(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.predictor = Predictor(sys.argv[1])

    def decode_request(self, request: dict[str, str]) -> bytes:
        return base64.b64decode(request["image"])

    def predict(self, image: bytes) -> dict[str, Any]:
        return self.predictor.answer(image)

    def encode_response(self, answer: dict[str, Any]) -> dict[str, Any]:
        return answer


if __name__ == "__main__":
    server = litserve.LitServer(Confluence(), accelerator="cpu", workers_per_device=int(sys.argv[3]), timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
