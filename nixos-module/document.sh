#!/usr/bin/env bash
# Writes the options into README.md, between the two lines that say so; with --check it only compares.
set -euo pipefail
cd "$(dirname "$0")"

begin='<!-- options: written by document.sh -->'
end='<!-- end of options -->'

# A JSON text as it reads.
plain_text() { local text; text=$(sed -e 's/^"//' -e 's/"$//' -e 's/\\"/"/g'); printf '%b\n' "$text"; }

fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
{
  sed "/^$begin\$/q" README.md
  echo
  nix-instantiate --eval --strict --json options-doc.nix | plain_text
  sed -n "/^$end\$/,\$p" README.md
} >"$fresh"

if [ "${1:-}" = --check ]; then
  diff -u README.md "$fresh"
else
  cat "$fresh" >README.md
fi
