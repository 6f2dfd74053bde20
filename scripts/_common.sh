# Shared by the scripts beside it, which source it: a .venv in the repository's root, made and kept up to date.
# It sets `root`, `venv` and `python`; a script then calls `ensure_venv EXTRA` and uses "$python".
# shellcheck shell=bash

unset CDPATH # `cd` would print where it went

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
python=$venv/bin/python
stamp=$venv/installed # what the last complete installation was made of

export PIP_DISABLE_PIP_VERSION_CHECK=1

say() {
  printf '%s\n' "$*" >&2
}

fail() {
  say "$*"
  exit 1
}

# Installs the project in editable mode with extras, unless that was done already. `dev` includes the others.
ensure_venv() {
  if is_installed "$1" || is_installed dev; then return; fi
  is_usable || make_venv
  install_project "$1"
  fingerprint "$1" >"$stamp"
}

is_installed() {
  [[ -x $python && -e $stamp && $(<"$stamp") == "$(fingerprint "$1")" ]]
}

# A change in any of this makes a new installation necessary. The place belongs to it, since in a copy of the
# repository the copied .venv still refers to the original.
fingerprint() {
  printf '%s\n' "$1" "$venv" "$(version_of "${PYTHON:-$python}")"
  "$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' \
    "$root/pyproject.toml"
}

is_usable() {
  grep -qsF -- " $venv" "$venv/pyvenv.cfg" && "$python" -c 'import pip' 2>/dev/null &&
    is_new_enough "$python" && [[ $(version_of "$python") == "$(version_of "${PYTHON:-$python}")" ]]
}

version_of() {
  "$1" -c 'import platform; print(platform.python_version())' 2>/dev/null
}

# By running it: a pyenv shim may be on PATH for a Python that is not there.
is_new_enough() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

make_venv() {
  local base
  base=$(find_python)
  say "Making ${venv##*/} with Python $(version_of "$base") ..."
  "$base" -m venv --clear "$venv" ||
    fail "The virtual environment $venv could not be made. Fix what $base complains of above, and run this again."
}

# Prints the command of a Python that is new enough and can make virtual environments.
find_python() {
  local candidate lacking='' candidates=(python3 python3.13 python3.12 python3.11)
  if [[ -n ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
  for candidate in "${candidates[@]}"; do
    is_new_enough "$candidate" || continue
    if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
      echo "$candidate"
      return
    fi
    lacking=${lacking:-$candidate}
  done
  if [[ -n $lacking ]]; then fail_without_venv "$lacking"; fi
  fail_without_python
}

# Debian and Ubuntu ship Python without `ensurepip`.
fail_without_venv() {
  local package
  package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  fail "$1 cannot make virtual environments: its module ensurepip is missing." \
    "Install it: $(apt_get "$package")"
}

fail_without_python() {
  if [[ -n ${PYTHON:-} ]]; then
    fail "PYTHON is set to $PYTHON, which is not a Python 3.11 or newer. Set it to one that is, or unset it."
  fi
  fail "There is no Python 3.11 or newer on PATH. Install one: $(apt_get python3 python3-venv)" \
    "(on Ubuntu 22.04: python3.11 python3.11-venv), or set PYTHON to where it is."
}

apt_get() {
  local sudo='sudo '
  if [[ $EUID == 0 ]]; then sudo=''; fi
  echo "${sudo}apt-get update && ${sudo}apt-get install -y $*"
}

install_project() {
  say "Installing Sandkasten [$1] in ${venv##*/} ..."
  rm -f "$stamp"
  install --editable "${root}[$1]" ||
    fail "The installation failed. Read what pip says above, fix that, and run this again."
}

# Installs by uv, which chooses versions in a second where pip takes a minute; by pip where pip has settings that
# uv does not read, or uv fails.
install() {
  if ! has_own_index && "$python" -m pip install --quiet uv &&
    "$python" -m uv pip install --quiet --python "$python" "$@"; then return; fi
  "$python" -m pip install --quiet "$@"
}

has_own_index() {
  "$python" -m pip config list | grep -qE '(index-url|no-index)='
}

# Runs a command under a heading; `finish` tells in the end which ones failed, after all of them ran.
failed_steps=()
step() {
  local name=$1
  shift
  say "==> $name"
  "$@" || failed_steps+=("$name")
}

finish() {
  local me=${0##*/} names
  if ((${#failed_steps[@]})); then
    names=$(printf ', %s' "${failed_steps[@]}")
    fail "$me failed at: ${names#, }. Start with the first complaint above."
  fi
  say "$me: all is well."
}
