#!/usr/bin/env bash
# Fetches Prometheus and promtool from Debian's or Ubuntu's packages into VENV/prometheus, unless both are there
# already. Nothing is installed into the system, so that no service starts. Without them the tests that need them skip.
set -euo pipefail
target=${1:?usage: prometheus.sh VENV}/prometheus

[ -x "$target/usr/bin/promtool" ] && exit
command -v prometheus >/dev/null && command -v promtool >/dev/null && exit
if ! command -v apt-get >/dev/null; then
    echo "mscflow: no prometheus here, and no apt-get to fetch it; tests that need it skip" >&2
    exit
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# apt-get drops its rights to another user's, who must be able to write here.
chmod 777 "$folder"
fetch() { (cd "$folder" && apt-get -qq download prometheus) >/dev/null 2>&1; }
# A new machine has no list of packages yet.
if ! fetch && ! { apt-get -qq update >/dev/null 2>&1 && fetch; }; then
    echo "mscflow: apt-get cannot fetch prometheus; tests that need it skip" >&2
    exit
fi
dpkg -x "$folder"/prometheus_*.deb "$folder/out"
mkdir -p "$target/usr"
rm -rf "$target/usr/bin"
mv "$folder/out/usr/bin" "$target/usr/bin"
