import subprocess
import sys

CODE = """
import sys
from serving.lean import import_kserve
sys.argv = ["server", "--help", "--http_port", "not a number"]
import_kserve()
assert sys.argv[1] == "--help"
assert not {"pandas", "kubernetes", "kserve.api.kserve_client"} & set(sys.modules)
import kserve, pandas
assert pandas.DataFrame({"a": [1]}).shape == (1, 1)
assert issubclass(kserve.Model, object) and kserve.ModelServer
import_kserve()
"""


def test_kserve_is_imported_without_its_heavy_parts_and_pandas_stays_usable() -> None:
    """In a process of its own, as nothing else in it may have imported either."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
