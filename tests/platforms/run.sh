#!/usr/bin/env bash
# Checks the library for other systems than this one, runs its tests where they can be run, and prints a table.
#
#   tests/platforms/run.sh [PART]
#
# PART   all (the default)
#        check    compiles everything for every target of the table
#        windows  the tests and programs under Wine
#        short    checks for Windows, macOS and i686, and the unit tests under Wine
#
# Takes an x86-64 Debian with rustup, and root, which installs gcc for Windows and Wine where they are missing. All else is in
# target/platforms: some 5 GB. Ends with 0 if all that could be run passed, with 1 if something failed that
# tests/platforms/wine-gaps does not name, and with 77 when something can't be installed: it says what.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

here=$PWD/tests/platforms
work=$PWD/target/platforms
part=${1:-all}
# No program of the tests takes that long.
limit=${LIMIT:-300}

windows=x86_64-pc-windows-gnu
i686=i686-unknown-linux-gnu
targets=("$windows" aarch64-apple-darwin x86_64-apple-darwin "$i686" armv7-unknown-linux-gnueabihf
    aarch64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-linux-android x86_64-unknown-freebsd)

say() { echo "platforms: $*" >&2; }

cannot() {
    say "CAN'T INSTALL $*"
    exit 77
}

# need PACKAGE COMMAND: what is missing is installed, by root.
need() {
    command -v "$2" >/dev/null && return
    [ "$(id -u)" = 0 ] || cannot "$1: that takes root"
    say "installing $1"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" >"$work/logs/apt" 2>&1 ||
        cannot "$1: see $work/logs/apt"
}

# The standard library of each target.
rust() {
    command -v rustup >/dev/null || cannot "the targets: there is no rustup"
    rustup target add "${targets[@]}" >"$work/logs/rustup" 2>&1 || cannot "the targets: see $work/logs/rustup"
}

# A row of the table: target, check, tests passed, failed, left out, and a remark.
rows=()
row() { rows+=("| $1 | $2 | $3 | $4 | $5 | $6 |"); }

table() {
    printf '\n| target | compiles | passed | failed | left out | |\n|---|---|---|---|---|---|\n'
    printf '%s\n' "${rows[@]}"
}

# Compiles everything for a target, without running or linking it.
check() {
    local target=$1 log=$work/logs/check-$1
    local prefix=${target//-/_}
    say "checking $target"
    local settings=()
    case $target in
        *windows* | *apple*) ;;
        *)
            # Build scripts ask the compiler of C for the version of OpenSSL, and those of this machine do.
            settings=(OPENSSL_LIB_DIR=/usr/lib/x86_64-linux-gnu OPENSSL_INCLUDE_DIR=/usr/include "CC_$prefix=$work/cc")
            ;;
    esac
    if env "${settings[@]}" cargo check --target "$target" --all-targets --target-dir "$work/target" >"$log" 2>&1; then
        if grep -q '^warning: unused\|^warning: `tautline`' "$log"; then echo "with warnings"; else echo yes; fi
    else
        echo "NO, see $log"
        false
    fi
}

# A compiler of C that only preprocesses, and leaves out what is for another processor.
preprocessor() {
    cat >"$work/cc" <<'END'
#!/usr/bin/env bash
kept=()
for argument in "$@"; do
    case $argument in -m* | --target*) ;; *) kept+=("$argument") ;; esac
done
exec gcc "${kept[@]}"
END
    chmod +x "$work/cc"
}

# Builds the tests for a target, and prints the programs, one a line.
build() {
    local target=$1
    shift
    say "building the tests for $target"
    cargo build --target "$target" --examples --target-dir "$work/target" "$@" >"$work/logs/build-$target" 2>&1 &&
        cargo test --target "$target" --no-run --target-dir "$work/target" "$@" >>"$work/logs/build-$target" 2>&1 ||
        { tail -n 30 "$work/logs/build-$target" >&2; return 1; }
    sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$work/logs/build-$target"
}

# Runs the programs of the tests, which stand on standard input, and counts. Tests that a file names, a line each, are left out.
#   run TARGET GAPS COMMAND...
run() {
    local target=$1 gaps=$2 program name status
    shift 2
    passed=0 failed=0 skipped=0
    : >"$work/logs/run-$target"
    while read -r program; do
        name=$(basename "$program")
        name=${name%-*}
        local out=$work/logs/run-$target-$name skips=()
        while read -r test; do skips+=(--skip "$test"); done < <(sed -n "s/^$name \([^ ]*\).*/\1/p" "$gaps")
        status=0
        timeout "$limit" "$@" "$program" --exact "${skips[@]}" </dev/null >"$out" 2>&1 || status=$?
        passed=$((passed + $(count ' ok$' "$out")))
        failed=$((failed + $(count ' FAILED$' "$out")))
        skipped=$((skipped + ${#skips[@]} / 2))
        if [ "$status" != 0 ]; then
            if [ "$status" = 124 ]; then failed=$((failed + 1)); say "$name has not ended after $limit s"; fi
            sed -n "s/^test \(.*\) \.\.\. FAILED.*/$name \1/p" "$out" | tee -a "$work/logs/run-$target" >&2
        fi
    done
    [ "$failed" = 0 ]
}

count() { tr -d '\r' <"$2" | grep -c "^test .*$1" || true; }

# Wine, and what version 8 lacks: bcryptprimitives.dll, from which Rust takes its random numbers.
wine() {
    export WINEPREFIX=$work/wine WINEDEBUG=-all RUST_BACKTRACE=0 CARGO_MANIFEST_DIR
    CARGO_MANIFEST_DIR=$(echo "Z:$PWD" | tr / '\\')
    local lacks=$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll
    [ -e "$lacks" ] && return
    need gcc-mingw-w64-x86-64-win32 x86_64-w64-mingw32-gcc
    [ -x "$wine" ] || need wine64 "$wine"
    say "making a place for Wine"
    timeout 120 "$wine" wineboot -i >"$work/logs/wine" 2>&1 || cannot "a place for Wine: see $work/logs/wine"
    x86_64-w64-mingw32-gcc -shared -O2 -o "$lacks" "$here/bcryptprimitives.c" -ladvapi32
}

wine=/usr/lib/wine/wine64

windows() {
    local compiles built programs=
    compiles=$(check "$windows") || { row "$windows" "$compiles" - - - ""; return 1; }
    wine
    built=$(build "$windows") || { row "$windows" "$compiles" - - - "the tests can't be built"; return 1; }
    [ "$1" = all ] || built=$(grep '/tautline-[^/]*$' <<<"$built")
    local ok=0
    run "$windows" "$here/wine-gaps" "$wine" <<<"$built" || ok=1
    if [ "$1" = all ]; then
        for program in quickstart gateway "fleet 20"; do
            # shellcheck disable=SC2086
            set -- $program
            timeout "$limit" "$wine" "$work/target/$windows/debug/examples/$1.exe" "${@:2}" </dev/null \
                >"$work/logs/run-$windows-program-$1" 2>&1 || { ok=1; programs+=" $1 FAILED"; }
        done
    fi
    row "$windows" "$compiles" "$passed" "$failed" "$skipped" "Wine${programs:-}"
    return $ok
}

mkdir -p "$work/logs"
preprocessor
rust
status=0
checked() {
    local compiles
    compiles=$(check "$1") || status=1
    row "$1" "$compiles" - - - "only compiled"
}
case $part in
    all | check)
        for target in "${targets[@]}"; do
            if [ "$part" = all ] && [ "$target" = "$windows" ]; then continue; fi
            checked "$target"
        done
        ;;&
    all | windows) windows all || status=1 ;;&
    short)
        windows units || status=1
        checked aarch64-apple-darwin
        checked "$i686"
        ;;
    all | check | windows) ;;
    *)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
        exit 2
        ;;
esac
table
exit $status
