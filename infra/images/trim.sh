#!/bin/sh
# Removes from an environment what no image needs: packages' own tests, headers, and static libraries.
set -eu
cd "${1:?usage: trim.sh ENVIRONMENT}"/lib/python3*/site-packages
