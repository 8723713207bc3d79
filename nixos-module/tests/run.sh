#!/usr/bin/env bash
# Evaluates the module and mkFleet in every case, and checks the units that come out. One line per case; exits 1 on a failure.
#
# MUSTER_NIXPKGS_LIB    a folder with Nixpkgs' lib: the cases are run with it too, and must go the same way
# MUSTER_TEST_REQUIRE   "all": a missing tool is a failure, not a skip
set -euo pipefail
cd "$(dirname "$0")"

# How exposed `systemd-analyze security` may call a unit, in tenths of its scale from 0 (nothing to attack) to 10: the agent that
# leaves what needs root to its helper, the helper, and the agent that is root itself.
exposure_max_agent=15
exposure_max_helper=15
exposure_max_root=22

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

# Writes every unit of a system into a folder. The programs are in no store here; any that exists will do for the checkers.
write_units() { # SYSTEM FOLDER
  local names name
  mkdir "$2"
  names=$(nix-instantiate --eval --json --expr "builtins.attrNames (import ./. { }).units.$1" | each_line)
  for name in $names; do
    evaluate "units.$1.\"$name\"" | plain_text | sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' >"$2/$name"
  done
}

verify_units() { # SYSTEM FOLDER
  local report
  if report=$(SYSTEMD_UNIT_PATH=$2: systemd-analyze verify --man=no "$2"/* 2>&1) && [ -z "$report" ]; then
    ok "units ($1): systemd finds nothing wrong with them"
  else
    fail "units ($1): systemd-analyze verify says: $report"
  fi
}

check_exposure() { # SYSTEM FILE EXPOSURE_MAX
  local report
  if report=$(systemd-analyze security --offline=true --threshold="$3" "$2" 2>&1); then
    ok "unit ($1): ${report##*→ }"
  else
    fail "unit ($1): more exposed than $3 tenths: ${report##*→ }"
  fi
}

check_units() {
  local system folder unit exposure_max
  for system in default full together directory; do
    folder=$scratch/$system
    write_units "$system" "$folder"
    verify_units "$system" "$folder"
    for unit in "$folder"/*.service; do
      case $system/$unit in
        together/*) exposure_max=$exposure_max_root ;;
        */muster-activate@.service) exposure_max=$exposure_max_helper ;;
        *) exposure_max=$exposure_max_agent ;;
      esac
      check_exposure "$system" "$unit" "$exposure_max"
    done
  done
}

if command -v nix-instantiate >/dev/null; then
  run_cases "stand-in lib"
  if [ -n "${MUSTER_NIXPKGS_LIB:-}" ]; then
    real_lib="import $(realpath "$MUSTER_NIXPKGS_LIB")"
    run_cases "Nixpkgs' lib" --arg lib "$real_lib"
    if cmp -s <(evaluate all) <(evaluate all --arg lib "$real_lib"); then
      ok "both libs see the same in everything"
    else
      fail "both libs see the same in everything: compare what -A all prints with each"
    fi
  fi
  if drift=$(../document.sh --check 2>&1); then
    ok "the options in README.md are those of the module"
  else
    fail "the options in README.md are not those of the module, run document.sh: $drift"
  fi
  if command -v systemd-analyze >/dev/null; then
    check_units
  else
    skip "the units" "systemd-analyze is not installed"
  fi
else
  skip "the NixOS module" "nix-instantiate is not installed (Debian: apt-get install nix-bin)"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
