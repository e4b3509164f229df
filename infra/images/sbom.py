"""Completes a CycloneDX list of Python packages with Debian's, which the image has from its base.

usage: sbom.py PYTHON.json
"""

import json
import platform
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

FIELDS = r"${binary:Package}\t${Version}\t${Architecture}\n"


def debian_packages() -> list[dict[str, str]]:
    """Give Debian's installed packages as CycloneDX components."""
    command = ["dpkg-query", "--show", f"--showformat={FIELDS}"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    release = platform.freedesktop_os_release()
    return [_component(*line.split("\t"), f"{release['ID']}-{release['VERSION_ID']}") for line in lines]


def _component(package: str, version: str, architecture: str, distribution: str) -> dict[str, str]:
    name = package.split(":", maxsplit=1)[0]
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}&distro={distribution}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    bom = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    bom["components"] = [*bom["components"], *debian_packages()]
    json.dump(bom, sys.stdout, indent=2, sort_keys=True)
