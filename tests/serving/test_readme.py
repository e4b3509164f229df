"""The README's examples, run as they are printed, against a real endpoint."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[2] / "serving" / "README.md"
EXAMPLES = re.findall(r"## Ask (?:with|over) (\w+)\n\n```(\w+)\n(.*?)```", README.read_text(), re.DOTALL)
COMMANDS = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "ignore", "-c"]}


def test_there_is_an_example_for_each_way_to_ask() -> None:
    assert [name for name, *_ in EXAMPLES] == ["curl", "Python", "gRPC"]


@pytest.mark.parametrize(("language", "code"), [each[1:] for each in EXAMPLES], ids=[each[0] for each in EXAMPLES])
def test_an_example_prints_the_answer(
    endpoint: Any, tmp_path: Path, png: Callable[..., bytes], language: str, code: str
) -> None:
    if language == "bash" and shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    (tmp_path / "image.png").write_bytes(png())
    assert "127.0.0.1:8080" in code or "127.0.0.1:8081" in code
    code = code.replace("http://127.0.0.1:8080", endpoint.url).replace("127.0.0.1:8081", endpoint.grpc)
    done = subprocess.run(
        [*COMMANDS[language], code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "media change" in done.stdout
