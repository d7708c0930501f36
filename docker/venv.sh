#!/bin/sh
# venv.sh TARGET LOCK: the image's virtual environment. What is only for installing or testing goes again: 100 MB.
set -eu
target=$1 lock=$2

python3 -m venv "$target"
"$target/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check --requirement "$lock"
"$target/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check hatchling editables trove-classifiers
"$target/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check setuptools pip 2>/dev/null
find "$target/lib" -type d -name tests -prune -exec rm -rf {} +
