#!/bin/sh
# Removes from an environment what no image of ours uses, about a quarter of it; the smoke tests run what is left.
set -eu
cd "${1:?usage: trim.sh ENVIRONMENT}"/lib/python3*/site-packages

# MLflow asks for Arrow and imports it for data sets that we do not log; KServe asks for gRPC's compiler.
uv pip uninstall --quiet pyarrow grpcio-tools

# Packages' own tests, and what extensions are compiled with.
find . -type d \( -name tests -o -path './onnx/backend/test' \) -not -path './torch/*' -prune -exec rm -rf {} +
find . -type f -regextype posix-extended -regex '.*\.(pyx|pxd|pyi|a|h|hpp|c|cc|cpp|proto)' -not -path './torch/*' -delete
rm -rf onnxruntime/transformers

# AWS describes every service; S3 is spoken here, and what its keys come from.
if [ -d botocore/data ]; then
    find botocore/data -mindepth 1 -maxdepth 1 -type d \
        -not -name s3 -not -name sts -not -name sso -not -name sso-oidc -not -name signin -exec rm -rf {} +
fi

# Symbols for debuggers. Libraries in *.libs were laid out anew by auditwheel, which strip does not expect; torch's
# are stripped already.
find . -name '*.so' -type f -not -path './torch/*' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
