#!/bin/sh
# Makes the checkout ready to work: a virtual environment, the packages in it, the default models.
# Says what it does; does nothing when nothing has changed. Called by `make setup`; with `run`, by what only runs it.
set -eu
cd "$(dirname "$0")/.."

: "${EXTRAS:=cpu,openvino,train,triton,postgres,s3,otel,dev}"
: "${TORCH:=torch==2.13.0}"
: "${SIGHTLINE_DATA_DIR:=$PWD/.sightline}"
export SIGHTLINE_DATA_DIR PIP_DISABLE_PIP_VERSION_CHECK=1
VENV=.venv

# pip says `-qq`: errors and nothing else. Its warnings are about indexes that a machine names and lacks, hundreds of them.
say() { printf '\033[36m==>\033[0m %s\n' "$*"; }
[ -t 1 ] && [ -z "${NO_COLOR:-}" ] || say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'set-up stopped: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}

# A key for what a step depends on: the step runs again when the key changes.
key_of() { cat "$@" 2>/dev/null | cksum | tr -d ' '; }

find_python() {
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed" "Debian, Ubuntu: apt-get install python3 python3-venv" \
    "macOS: brew install python" "Or name one: make setup PYTHON=/path/to/python3"
}

make_environment() {
  if [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    return
  fi
  python=$(find_python)
  say "Creating $VENV with $("$python" -V)"
  rm -rf "$VENV"
  if ! "$python" -m venv "$VENV"; then
    rm -rf "$VENV"
    fail "$python cannot make virtual environments" "Debian, Ubuntu: apt-get install python3-venv"
  fi
}

install_packages() {
  stamp="$VENV/.installed"
  key="$EXTRAS $TORCH $PWD $(key_of pyproject.toml constraints.txt scripts/setup.sh)"
  [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return
  rm -f "$stamp"
  say "Updating pip"
  "$VENV/bin/python" -m pip install -qq --upgrade pip
  case ",$EXTRAS," in
    *,train,*)
      # Alone and first: the build that fits the machine is pip's choice, and what follows must not replace it.
      say "Installing $TORCH (only exporting and training need it; the biggest part of the set-up)"
      "$VENV/bin/python" -m pip install -qq "$TORCH"
      ;;
  esac
  say "Installing Sightline [$EXTRAS]"
  "$VENV/bin/python" -m pip install -qq --constraint constraints.txt --editable ".[$EXTRAS]"
  printf '%s' "$key" >"$stamp"
}

# What a container of docker-compose.yml has and no package of a system: the tests of deploy/ run it as a process. In an
# environment of its own, because it needs older packages than the platform.
make_exporter() {
  case ",$EXTRAS," in *,dev,*) ;; *) return ;; esac
  list=deploy/docker/celery-exporter.txt
  stamp=.venv-celery-exporter/.installed
  key=$(key_of "$list")
  [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return
  say "Installing celery-exporter, for the tests of deploy/"
  rm -rf .venv-celery-exporter
  "$VENV/bin/python" -m venv .venv-celery-exporter
  .venv-celery-exporter/bin/python -m pip install -qq --no-deps --ignore-requires-python --requirement "$list"
  printf '%s' "$key" >"$stamp"
}

# A real tritonserver, for tests and for `make demo RUNTIME=triton`. In an environment of its own, because its Python side
# needs NumPy 1. Its wheel is for Linux on x86_64, and NumPy 1 has wheels up to Python 3.12.
make_triton() {
  list=deploy/triton/requirements.txt
  stamp=.venv-triton/.installed
  key=$(key_of "$list")
  [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return
  if [ "$(uname -s) $(uname -m)" != "Linux x86_64" ]; then
    say "No tritonserver: its package is for Linux on x86_64; what drives it will say so"
    return
  fi
  found=""
  for candidate in "$VENV/bin/python" python3.12 python3.11; do
    "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || continue
    found=$candidate
    break
  done
  [ -n "$found" ] || fail "tritonserver needs Python 3.11 or 3.12" "Debian, Ubuntu: apt-get install python3.11-venv" \
    "Or make the checkout with one: make setup PYTHON=/path/to/python3.12"
  say "Installing tritonserver"
  rm -rf .venv-triton
  "$found" -m venv .venv-triton
  .venv-triton/bin/python -m pip install -qq --no-deps --requirement "$list"
  printf '%s' "$key" >"$stamp"
}

# Programs that some tests drive. They are installed where that needs no password; elsewhere they are named, and the
# tests that need them say so again. Asked for once: a system that lacks a package is not searched every time.
install_programs() {
  missing=""
  for pair in curl:curl docker-compose:docker-compose promtool:prometheus \
    prometheus-alertmanager:prometheus-alertmanager prometheus-redis-exporter:prometheus-redis-exporter; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
  done
  command -v initdb >/dev/null || [ -n "$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null)" ] || missing="$missing postgresql"
  [ -n "$missing" ] || return 0
  tried="$VENV/.programs"
  [ "$(cat "$tried" 2>/dev/null)" = "$missing" ] && return 0
  printf '%s' "$missing" >"$tried"
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "Installing$missing, for tests that drive them"
    apt-get update -qq || say "The package lists could not be renewed"
    for package in $missing; do
      DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package" >/dev/null ||
        say "$package could not be installed; the tests that drive it will say so"
    done
  else
    say "Some tests drive programs that are not installed:$missing"
  fi
}

pull_models() {
  stamp="$SIGHTLINE_DATA_DIR/models/.pulled"
  key=$(key_of models/catalog/*.yaml models/catalog/sources.lock)
  [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && return
  say "Pulling the default models into $SIGHTLINE_DATA_DIR"
  "$VENV/bin/sightline" models pull
  printf '%s' "$key" >"$stamp"
}

make_environment
install_packages
if [ "${1:-all}" = all ]; then
  make_exporter
  install_programs
fi
if [ "${1:-all}" = all ] || [ "${RUNTIME:-onnx}" = triton ]; then
  make_triton
fi
pull_models
