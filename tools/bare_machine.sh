#!/usr/bin/env bash
# The README's two commands on a bare machine, as nearly as this one can be made to look like it: a fresh clone of what is
# committed here, an empty home, an empty environment, and a PATH with nothing in it but Python, make, a C compiler, git and
# the small tools of the shell: no ffmpeg, no browser, no PostgreSQL, no Prometheus, no curl.
#
#   tools/bare_machine.sh                    # clone, `make demo`, `make test`
#   tools/bare_machine.sh demo               # only these targets
#   BUSY=2 tools/bare_machine.sh             # beside two busy loops
#   PYTEST_ADDOPTS="tests/cascade/audio" tools/bare_machine.sh test
#   FOLDER=/tmp/bare tools/bare_machine.sh   # in this folder, which is kept, and used again with what is installed in it
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${FOLDER:-$(mktemp -d)}
python=$(python3 -c 'import sys; print(sys._base_executable)')

mkdir -p "$folder/bin" "$folder/home"
for tool in make gcc cc ld as ar git sh bash env expand grep egrep sed awk find xargs tar gzip \
	basename cat chmod cp cut date dirname echo expr false head id install ln ls mkdir mktemp mv nproc printf \
	readlink realpath rm rmdir sleep sort stat tail tee test touch tr true uname uniq wc which; do
	if path=$(type -P "$tool"); then ln -sf "$(realpath "$path")" "$folder/bin/$tool"; fi
done
ln -sf "$python" "$folder/bin/python3"

if [ -d "$folder/clone" ]; then
	git -C "$folder/clone" fetch --quiet "$root" HEAD
	git -C "$folder/clone" checkout --quiet --force --detach FETCH_HEAD
else
	git clone --quiet "$root" "$folder/clone"
fi

loops=()
finish() {
	for loop in "${loops[@]}"; do kill "$loop" 2>/dev/null || true; done
	if [ -z "${FOLDER:-}" ]; then rm -rf "$folder"; fi
}
trap finish EXIT
for ((i = 0; i < ${BUSY:-0}; i++)); do
	python3 -c 'while True: pass' &
	loops+=($!)
done

# Where packages come from, and how the network is reached, is the machine's business: both stay as they are.
kept=()
for name in ${!PIP_*} ${!SSL_*} http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY PYTEST_ADDOPTS XDG_CONFIG_DIRS; do
	if [ -n "${!name:-}" ]; then kept+=("$name=${!name}"); fi
done
if [ -z "${PIP_CONFIG_FILE:-}" ] && [ -e "${HOME:-}/.config/pip/pip.conf" ]; then kept+=("PIP_CONFIG_FILE=$HOME/.config/pip/pip.conf"); fi
for target in ${*:-demo test}; do
	echo "== make $target on a bare PATH in $folder/clone"
	(cd "$folder/clone" && env -i HOME="$folder/home" PATH="$folder/bin" LANG=C.UTF-8 TERM=dumb "${kept[@]}" make "$target")
done
