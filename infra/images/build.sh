#!/usr/bin/env bash
# Builds the images that are not up to date with this tree, and prints a line "NAME TAG" for each of the three.
#
#   MSCFLOW_BASE_IMAGE   base image; default: the Dockerfile's, by digest
#   MSCFLOW_TORCH        cuda (default) or cpu
#   MSCFLOW_TORCH_CPU    what pip is asked for with cpu, such as "torch==2.14.1 torchvision==0.29.1"
#   MSCFLOW_TORCH_INDEX  index where pip finds that
set -euo pipefail
cd "$(dirname "$0")/../.."
export DOCKER_BUILDKIT=1
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain -- components pipelines serving infra/images 2>/dev/null)" ] || revision+=-dirty

options=(--build-arg "TORCH=${MSCFLOW_TORCH:-cuda}")
for name in BASE:MSCFLOW_BASE_IMAGE TORCH_CPU:MSCFLOW_TORCH_CPU TORCH_INDEX:MSCFLOW_TORCH_INDEX; do
    value=${name#*:}
    [ -z "${!value:-}" ] || options+=(--build-arg "${name%%:*}=${!value}")
done
files() { find components pipelines serving infra/images pyproject.toml requirements.lock README.md \
    -type f -not -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z; }
sources=$({ files | xargs -0 sha256sum; printf '%s\n' "${options[@]}"; } | sha256sum | cut -d ' ' -f 1)

build() {
    local name=$1 tag=mscflow/$1-python:$version
    if [ "$(docker image inspect -f '{{ index .Config.Labels "mscflow.sources" }}' "$tag" 2>/dev/null)" != "$sources" ]; then
        docker build --quiet --target "$name" --tag "$tag" "${options[@]}" -f infra/images/Dockerfile \
            --label "mscflow.sources=$sources" \
            --label "org.opencontainers.image.title=mscflow $name" \
            --label "org.opencontainers.image.version=$version" \
            --label "org.opencontainers.image.revision=$revision" . >/dev/null
    fi
    echo "$name $tag"
}

for name in control train predict; do build "$name"; done
