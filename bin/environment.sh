# Sourced by bin/serve and bin/test: makes the checkout's own virtual environment, in .venv.
# shellcheck shell=bash

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$*"; exit 1; }

# The first Python that is new enough; PYTHON names another one.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "needs Python 3.11 or newer as python3 (Debian, Ubuntu: apt-get install python3 python3-venv)"
}

# Print a digest of everything that the installation depends on, including the path, as the scripts in .venv/bin contain it.
fingerprint() { { printf '%s\n' "$PWD" "$1"; cat setup.cfg pyproject.toml nexus_tw/__init__.py clients/python/pyproject.toml; } | sha256sum; }

# ensure_environment [EXTRA]: make .venv with the project and its EXTRA, and the client with its command line beside it (for
# tests with its Twisted part too); install again if the fingerprint has changed.
ensure_environment() {
    local extra=${1:-} python client=clients/python[cli${1:+,twisted}] stamp=.venv/installed${1:+-$1} log=.venv/install.log
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint "$extra")" ] && .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    python=$(find_python) || exit 1
    if [ "$(cat .venv/made-in 2>/dev/null)" != "$PWD" ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            die "$python cannot make virtual environments: apt-get install python3-venv"
        say "making .venv with $("$python" --version)"
        rm -rf .venv
        "$python" -m venv .venv || die "$python -m venv failed: apt-get install python3-venv"
        printf '%s' "$PWD" >.venv/made-in
    fi
    say "installing nexus-tw${extra:+ with what the tests need} into .venv"
    # Editable, so that a change of the code applies at once; in compat mode, as twistd finds no plugin in the default one.
    if ! .venv/bin/python -m pip install --disable-pip-version-check --quiet --editable ".${extra:+[$extra]}" \
        --editable "$client" --config-settings editable_mode=compat >"$log" 2>&1; then
        grep -i 'error' "$log" | tail -n 5 >&2 || true
        die "pip could not install what Nexus needs; is there a network? The whole story: $PWD/$log"
    fi
    fingerprint "$extra" >"$stamp"
}
