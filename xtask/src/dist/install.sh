#!/bin/sh
# Installs pepo @VERSION@ and kubectl's plugin, `kubectl pepo`:
#     sh install.sh [FOLDER]        without FOLDER: ~/.local/bin
# PEPO_URL: where the archives are, instead of @URL@
set -eu

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

case "$(uname -s)" in
    Linux) os=linux ;;
    Darwin) os=darwin ;;
    *) fail "there is no archive for $(uname -s); on Windows unpack the zip" ;;
esac
case "$(uname -m)" in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) fail "there is no archive for machines of $(uname -m)" ;;
esac
case "$os-$arch" in
@SUMS@
    *) fail "there is no archive for $os on $arch" ;;
esac

folder="${1:-${HOME:?}/.local/bin}"
url="${PEPO_URL:-@URL@}"
archive="pepo-@VERSION@-$os-$arch.tar.gz"
command -v curl >/dev/null || fail "curl is needed"
mkdir -p "$folder" || fail "the folder $folder cannot be made; name another: sh install.sh FOLDER"
# Beside its place, so that each program is replaced at one moment, also while it runs.
work="$(mktemp -d "$folder/.pepo-XXXXXX")" || fail "$folder cannot be written to; name another: sh install.sh FOLDER"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM

curl --fail --silent --show-error --location --output "$work/archive" "$url/$archive" ||
    fail "$url/$archive cannot be fetched"
if command -v sha256sum >/dev/null; then
    found="$(sha256sum <"$work/archive")"
else
    found="$(shasum -a 256 <"$work/archive")"
fi
[ "${found%% *}" = "$sum" ] ||
    fail "$archive is not what was released: its SHA-256 is ${found%% *}, not $sum; nothing was installed"

mkdir "$work/files"
tar -xzf "$work/archive" -C "$work/files"
for file in "$work/files"/pepo*; do
    mv -f "$file" "$folder/"
done
ln -sf pepo "$folder/kubectl-pepo"
ln -sf pepo "$folder/kubectl_complete-pepo"
"$folder/pepo" --version
case ":$PATH:" in
    *":$folder:"*) ;;
    *) echo "$folder is not in PATH" ;;
esac
