import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from components import provenance
from components.provenance import code_version, environment


def test_the_code_version_names_release_commit_and_sources():
    assert re.fullmatch(r"\d+\.\d+\.\d+\+(g[0-9a-f]{12}(\.dirty)?\.)?s[0-9a-f]{12}", code_version())


def test_a_copy_outside_its_repository_is_known_by_its_sources(tmp_path: Path):
    """The same sources have the same digest; one changed byte has another; a foreign repository counts for nothing."""
    inside = tmp_path / "site-packages" / "components"
    inside.mkdir(parents=True)
    for name in ("__init__.py", "provenance.py"):
        shutil.copyfile(Path(provenance.__file__).parent / name, inside / name)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    first, again = version_of(inside.parent), version_of(inside.parent)
    assert first == again
    assert "g" not in first.partition("+")[2]
    with (inside / "__init__.py").open("a") as file:
        file.write("# changed\n")
    assert version_of(inside.parent) != first


def version_of(folder: Path) -> str:
    command = [sys.executable, "-c", "from components.provenance import code_version; print(code_version())"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_the_environment_names_python_and_libraries():
    found = environment()
    assert found["python"] == platform.python_version()
    assert {"numpy", "onnxruntime", "mlflow"} <= found.keys()
