#!/usr/bin/env bash
# Evaluates the NixOS module in every case of cases.nix and checks the unit it makes. One line per case; exits 1 on a failure.
#
# MUSTER_NIXPKGS_LIB    a folder with Nixpkgs' lib: the cases are run with it too, and must go the same way
# MUSTER_TEST_REQUIRE   "all": a missing tool is a failure, not a skip
set -euo pipefail
cd "$(dirname "$0")"

# How exposed `systemd-analyze security` may call the agent's unit, as root and as a user of its own: tenths of its scale from 0
# (nothing to attack) to 10.
exposure_max_root=22
exposure_max_user=18

passed=0 failed=0 skipped=0

ok() { echo "ok $1"; passed=$((passed + 1)); }
fail() { echo "FAILED $1"; failed=$((failed + 1)); }
skip() {
  if [ "${MUSTER_TEST_REQUIRE:-}" = all ]; then fail "$1: $2"; else echo "skipped $1: $2"; skipped=$((skipped + 1)); fi
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

evaluate() { # ATTRIBUTE [ARGUMENTS...]
  local attribute=$1
  shift
  nix-instantiate --eval --strict --json default.nix -A "$attribute" "$@"
}

# A JSON list of texts, one a line. Within a text a quote is escaped, so `","` stands only between two of them.
each_line() { sed -e 's/^\["//' -e 's/"\]$//' -e 's/","/\n/g' -e 's/\\"/"/g'; }

# A JSON text as it reads.
plain_text() { local text; text=$(sed -e 's/^"//' -e 's/"$//' -e 's/\\"/"/g'); printf '%b\n' "$text"; }

run_cases() { # LABEL [ARGUMENTS...]
  local label=$1
  shift
  if ! evaluate lines "$@" >"$scratch/lines"; then
    fail "$label: the cases could not be evaluated"
    return
  fi
  while IFS= read -r line; do
    case $line in
      "ok "*) ok "$label: ${line#ok }" ;;
      *) fail "$label: ${line#FAILED }" ;;
    esac
  done < <(each_line <"$scratch/lines")
}

check_unit() { # BACKEND EXPOSURE_MAX
  local backend=$1 unit=$scratch/$1/muster.service report
  mkdir "$scratch/$backend"
  evaluate "units.$backend" | plain_text >"$unit"
  # The program is in no store here; any that exists will do for the checker.
  sed -i 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' "$unit"

  if report=$(systemd-analyze verify --man=no "$unit" 2>&1) && [ -z "$report" ]; then
    ok "unit ($backend): systemd finds nothing wrong with it"
  else
    fail "unit ($backend): systemd-analyze verify says: $report"
  fi
  if report=$(systemd-analyze security --offline=true --threshold="$2" "$unit" 2>&1); then
    ok "unit ($backend): ${report##*→ }"
  else
    fail "unit ($backend): more exposed than $2 tenths: ${report##*→ }"
  fi
}

if command -v nix-instantiate >/dev/null; then
  run_cases "stand-in lib"
  if [ -n "${MUSTER_NIXPKGS_LIB:-}" ]; then
    run_cases "Nixpkgs' lib" --arg lib "import $(realpath "$MUSTER_NIXPKGS_LIB")"
  fi
  if command -v systemd-analyze >/dev/null; then
    check_unit nixos "$exposure_max_root"
    check_unit directory "$exposure_max_user"
  else
    skip "the unit" "systemd-analyze is not installed"
  fi
else
  skip "the NixOS module" "nix-instantiate is not installed (Debian: apt-get install nix-bin)"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
