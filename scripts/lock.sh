#!/bin/sh
# Writes constraints.txt anew: the versions that a set-up installs, for every Python and platform at once.
# Needs uv. What is there already stays unless pyproject.toml asks for more: delete a line to have it renewed.
# PyTorch and what it brings are left out: which build of it fits is for each machine to choose.
set -eu
cd "$(dirname "$0")/.."

extras="cpu openvino train triton postgres s3 otel dev bench"
# shellcheck disable=SC2046 # one option a word
uv pip compile pyproject.toml --universal --python-version 3.11 --quiet --no-annotate --no-header \
  $(for extra in $extras; do printf ' --extra %s' "$extra"; done) --output-file constraints.txt >/dev/null
grep -v -E '^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==' constraints.txt >constraints.new
{
  echo "# What a set-up installs; scripts/lock.sh writes this file. PyTorch is left out on purpose."
  cat constraints.new
} >constraints.txt
rm constraints.new
