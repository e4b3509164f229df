#!/usr/bin/env bash
# Builds the images that are not up to date with this tree, and prints a line "NAME TAG" for each of the three.
# Beside each lies a list of what is in it: dist/sbom/NAME-python.cdx.json (CycloneDX).
#
#   MSCFLOW_BASE_IMAGE   base image; default: the Dockerfile's, by digest
#   MSCFLOW_TORCH        cuda (default) or cpu
#   MSCFLOW_TORCH_CPU    what pip is asked for with cpu, such as "torch==2.14.1 torchvision==0.29.1"
#   MSCFLOW_TORCH_INDEX  index where pip finds that
set -euo pipefail
cd "$(dirname "$0")/../.."
export DOCKER_BUILDKIT=1
docker version >/dev/null 2>&1 || { echo "mscflow: no Docker engine answers; start one, or set DOCKER_HOST" >&2; exit 2; }
mkdir -p dist/sbom
# Two builds of one tree would do the same work twice.
exec 9>dist/.images.lock
flock 9

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
parts=(components pipelines serving infra/images pyproject.toml requirements.lock README.md)
[ -z "$(git status --porcelain -- "${parts[@]}" 2>/dev/null)" ] || revision+=-dirty

options=(--build-arg "TORCH=${MSCFLOW_TORCH:-cuda}")
for name in BASE:MSCFLOW_BASE_IMAGE TORCH_CPU:MSCFLOW_TORCH_CPU TORCH_INDEX:MSCFLOW_TORCH_INDEX; do
    value=${name#*:}
    [ -z "${!value:-}" ] || options+=(--build-arg "${name%%:*}=${!value}")
done
files() { find "${parts[@]}" -type f -not -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z; }
sources=$({ files | xargs -0 sha256sum; printf '%s\n' "$revision" "${options[@]}"; } | sha256sum | cut -d ' ' -f 1)

run_build() { docker build --quiet "${options[@]}" -f infra/images/Dockerfile "$@" . >&2; }

build() {
    local name=$1 tag=mscflow/$1-python:$version list=dist/sbom/$1-python.cdx.json
    local label='{{ index .Config.Labels "mscflow.sources" }}'
    if [ "$(docker image inspect -f "$label" "$tag" 2>/dev/null)" != "$sources" ] || [ ! -s "$list" ]; then
        run_build --target "$name" --tag "$tag" \
            --label "mscflow.sources=$sources" \
            --label "org.opencontainers.image.title=mscflow $name" \
            --label "org.opencontainers.image.version=$version" \
            --label "org.opencontainers.image.revision=$revision"
        rm -rf "$list.part"
        run_build --target sbom --build-arg "IMAGE=$name" --output "$list.part"
        mv "$list.part/sbom.json" "$list"
        rm -rf "$list.part"
    fi
    echo "$name $tag"
}

for name in control train predict; do build "$name"; done
