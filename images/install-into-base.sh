#!/bin/sh
# Installs packages into an image's own interpreter (no venv), with bytecode: install-into-base.sh PIP-INSTALL-ARGUMENTS...
# Works with python:*-slim and with a Debian that has python3 and python3-venv.
#
# A build behind a proxy or with an index of its own passes two optional secrets, so that nothing of the building machine stays in
# the image: `--secret id=pip.conf,src=FILE` (index-url, proxy, ...) and `--secret id=ca.pem,src=FILE` (CA bundle).
set -eu

python=$(command -v python3)
prefix=$(dirname "$(dirname "$python")")
[ -e "$prefix/bin/python" ] || ln -s python3 "$prefix/bin/python"

# Debian's mark against installing here (PEP 668) protects a machine's system tools; in an image the interpreter is ours, and
# an image derived from this one must be able to say `RUN pip install`.
rm -f "$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')/EXTERNALLY-MANAGED"

[ ! -r /run/secrets/pip.conf ] || export PIP_CONFIG_FILE=/run/secrets/pip.conf
[ ! -r /run/secrets/ca.pem ] || export PIP_CERT=/run/secrets/ca.pem
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

# Debian's python3 has no pip and no working ensurepip, but its venvs do.
bootstrap=$(mktemp -d)
if "$python" -m pip --version >/dev/null 2>&1; then
    pip="$python -m pip"
else
    "$python" -m venv "$bootstrap"
    pip="$bootstrap/bin/pip --python $python"
fi
# Not compiled by pip: it does so on one core and also what is dropped below.
$pip install --no-compile "$@"
rm -rf "$bootstrap"

packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Packages' own test suites: a tenth of the image, never imported.
find "$packages" -depth -type d -name tests -exec rm -rf {} +
# A second -q: a few packages carry templates that are no valid Python, and those stay as they are.
"$python" -m compileall -qq -j 0 "$packages" "$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" || true
