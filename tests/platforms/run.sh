#!/usr/bin/env bash
# Checks the library for other systems than this one, runs its tests where they can be run, and prints a table.
#
#   tests/platforms/run.sh [PART]
#
# PART   all (the default)
#        check    compiles everything for every target of the table, and with the oldest Rust that is promised
#        windows  the tests under Wine, and what gaps.sh, tls.sh, programs.sh and dll.sh beside this file show there
#        storms   two hundred storms of tests/chaos under Wine
#        i686     the tests in 32 bits, natively
#        armv7    the tests in 32 bits, under qemu-user
#        short    builds the library for Windows, macOS and i686, and runs the unit tests under Wine
#
# Takes an x86-64 Debian with rustup, and root, which installs what is missing: compilers of C, Wine, qemu-user. All else is in
# target/platforms: some 10 GB. Ends with 0 if all that could be run passed, with 1 if something failed that
# wine-gaps and qemu-gaps beside this file do not name, and with 77 when something can't be installed: it says what.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

here=$PWD/tests/platforms
work=$PWD/target/platforms
part=${1:-all}
# No program of the tests takes that long.
limit=${LIMIT:-300}
# The tests are run, and not debugged.
export CARGO_PROFILE_DEV_DEBUG=0

windows=x86_64-pc-windows-gnu
i686='i686-unknown-linux-gnu'
armv7='armv7-unknown-linux-gnueabihf'
targets=("$windows" aarch64-apple-darwin x86_64-apple-darwin "$i686" "$armv7"
    aarch64-unknown-linux-gnu x86_64-unknown-linux-musl aarch64-linux-android x86_64-unknown-freebsd)
wine=/usr/lib/wine/wine64

say() { echo "platforms: $*" >&2; }

cannot() {
    say "CAN'T INSTALL $*"
    exit 77
}

# need FILE PACKAGE...: what is missing is installed, by root.
need() {
    [ -e "$1" ] && return
    shift
    [ "$(id -u)" = 0 ] || cannot "$*: that takes root"
    say "installing $*"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >"$work/logs/apt" 2>&1 ||
        cannot "$*: see $work/logs/apt"
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

# check TARGET [library]: compiles everything for a target, or the library alone, without linking it. The library itself is
# built: only then does the compiler find a number that is too large for 32 bits.
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
    if env "${settings[@]}" cargo build --target "$target" --lib --target-dir "$work/target" >"$log" 2>&1 && {
        [ "${2:-}" = library ] ||
            env "${settings[@]}" cargo check --target "$target" --all-targets --target-dir "$work/target" >>"$log" 2>&1
    }; then
        if grep -q '^warning' "$log"; then echo "with warnings"; else echo yes; fi
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

# programs TARGET ARGUMENT...: builds tests for a target, and prints the programs, one a line.
programs() {
    local target=$1 log=$work/logs/build-$1
    shift
    say "building the tests for $target"
    if cargo test --target "$target" --no-run --target-dir "$work/target" "$@" >"$log" 2>&1; then
        sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$log"
    else
        tail -n 30 "$log" >&2
        return 1
    fi
}

# examples TARGET ARGUMENT...: some of the tests run them.
examples() {
    local target=$1 log=$work/logs/examples-$1
    shift
    cargo build --target "$target" --examples --target-dir "$work/target" "$@" >"$log" 2>&1 ||
        { tail -n 30 "$log" >&2; return 1; }
}

# Runs the programs of the tests, which stand on standard input, and counts. Tests that a file names, a line each, are left out,
# or all of a program, where it names *.
#   run TARGET GAPS COMMAND...
run() {
    local target=$1 gaps=$2 program name status
    shift 2
    passed=0 failed=0 skipped=0
    while read -r program; do
        name=$(basename "$program")
        name=${name%-*}
        local out=$work/logs/run-$target-$name skips=()
        if grep -q "^$name \* " "$gaps"; then
            skipped=$((skipped + $("$@" "$program" --list 2>/dev/null </dev/null | grep -c ': test')))
            continue
        fi
        while read -r test; do skips+=(--skip "$test"); done < <(sed -n "s/^$name \([^ ]*\).*/\1/p" "$gaps")
        status=0
        timeout "$limit" "$@" "$program" --exact "${skips[@]}" </dev/null >"$out" 2>&1 || status=$?
        passed=$((passed + $(count ok "$out")))
        failed=$((failed + $(count FAILED "$out")))
        skipped=$((skipped + ${#skips[@]} / 2))
        if [ "$status" != 0 ]; then
            # A program that ends before it has counted its tests has failed as a whole.
            grep -q '^test result' "$out" || { failed=$((failed + 1)); say "$name has failed with status $status; see $out"; }
            tr -d '\r' <"$out" | sed -n "s/^test \(.*\) \.\.\. FAILED.*/platforms: FAILED $name \1/p" >&2
        fi
    done
    [ "$failed" = 0 ]
}

# count RESULT FILE: how many tests had this result, as the program says at its end.
count() {
    local word=passed
    [ "$1" = ok ] || word=failed
    tr -d '\r' <"$2" | sed -n "s/^test result: .* \([0-9]*\) $word;.*/\1/p" | awk '{ all += $1 } END { print all + 0 }'
}

# Wine, and what version 8 lacks: bcryptprimitives.dll, from which Rust takes its random numbers.
wine() {
    export WINEPREFIX=$work/wine WINEDEBUG=-all RUST_BACKTRACE=0 CARGO_MANIFEST_DIR
    CARGO_MANIFEST_DIR=Z:${PWD//\//\\}
    local lacks=$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll
    need /usr/bin/x86_64-w64-mingw32-gcc gcc-mingw-w64-x86-64-win32
    need "$wine" wine64
    [ -e "$lacks" ] && return
    say "making a place for Wine"
    timeout 120 "$wine" wineboot -i >"$work/logs/wine" 2>&1 || cannot "a place for Wine: see $work/logs/wine"
    x86_64-w64-mingw32-gcc -shared -O2 -o "$lacks" "$here/bcryptprimitives.c" -ladvapi32
}

# native TARGET HOW GAPS COMMAND...: builds the tests, and runs them by this command.
native() {
    local target=$1 how=$2 gaps=$3 compiles built ok=0
    shift 3
    compiles=$(check "$target") || { row "$target" "$compiles" - - - ""; return 1; }
    { examples "$target" --features vendored && built=$(programs "$target" --features vendored); } ||
        { row "$target" "$compiles" - - - "the tests can't be built"; return 1; }
    run "$target" "$gaps" "$@" <<<"$built" || ok=1
    row "$target" "$compiles" "$passed" "$failed" "$skipped" "$how"
    return $ok
}

# OpenSSL is built from its source for both: it wants the headers of the kernel, which Debian has for this machine's processor.
i686() {
    need /usr/bin/make make perl
    need /usr/lib32/libc.so.6 "gcc-$(gcc -dumpversion)-multilib" libc6-dev-i386
    export CFLAGS_i686_unknown_linux_gnu=-I/usr/include/x86_64-linux-gnu
    native "$i686" "in 32 bits" /dev/null env
}

armv7() {
    need /usr/bin/make make perl
    need /usr/bin/arm-linux-gnueabihf-gcc gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
    need /usr/bin/qemu-arm qemu-user
    export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc
    native "$armv7" "in 32 bits, qemu-user" "$here/qemu-gaps" \
        env TAUTLINE_PATIENCE=6 qemu-arm -L /usr/arm-linux-gnueabihf
}

# windows all, or windows units for the unit tests alone.
windows() {
    local compiles built ok=0
    wine
    case $1 in
        all)
            compiles=$(check "$windows") || { row "$windows" "$compiles" - - - ""; return 1; }
            examples "$windows" && built=$(programs "$windows")
            ;;
        units) compiles="the library" built=$(programs "$windows" --lib) ;;
    esac || { row "$windows" "$compiles" - - - "the tests can't be built"; return 1; }
    # It has no server of TLS, and it is slow.
    run "$windows" "$here/wine-gaps" env TAUTLINE_PLAIN=1 TAUTLINE_PATIENCE=6 "$wine" <<<"$built" || ok=1
    row "$windows" "$compiles" "$passed" "$failed" "$skipped" Wine
    return $ok
}

# show NAME COMMAND...: what a script says, a claim a line.
show() {
    local out=$work/logs/show-$1
    shift
    "$@" >"$out" 2>&1 || true
    cat "$out" >&2
    passed=$((passed + $(grep -c '^ok' "$out" || true)))
    failed=$((failed + $(grep -c '^FAILED' "$out" || true)))
    # One that can't even begin has shown nothing.
    grep -q '^ok\|^[A-D].*: yes\|^[A-D].*: no' "$out" || failed=$((failed + 1))
}

# ends EXAMPLE ARGUMENT...: it runs to its end.
# shellcheck disable=SC2317  # `show` calls it
ends() {
    local name=$1
    shift
    if timeout "$limit" "$wine" "$work/target/$windows/debug/examples/$name.exe" "$@" </dev/null; then
        echo "ok: $name runs to its end"
    else
        echo "FAILED: $name runs to its end"
    fi
}

# What no test shows: the gaps of Wine, TLS against a server outside, programs and Ctrl-C, the C interface as a DLL.
shows() {
    local examples=$work/target/$windows/debug/examples log=$work/logs/build-shown
    passed=0 failed=0
    need /usr/bin/python3 python3
    need /usr/bin/openssl openssl
    wine
    say "showing what runs under Wine"
    examples "$windows" || return 1
    cargo build --target "$windows" --target-dir "$work/rustls" --no-default-features --features rustls,testing \
        --example wscat >"$log" 2>&1 || { tail -n 30 "$log" >&2; return 1; }
    show gaps "$here/gaps.sh" "$work/shown"
    show tls "$here/tls.sh" "$work/shown" "$examples/wscat.exe" "$work/rustls/$windows/debug/examples/wscat.exe"
    show programs "$here/programs.sh" "$work/shown" "$examples/wscat.exe" "$examples/quickstart.exe"
    show dll "$here/dll.sh" "$work/shown" "$work/c"
    show gateway ends gateway
    show fleet ends fleet 20
    row "$windows" "what scripts show" "$passed" "$failed" 0 Wine
    [ "$failed" = 0 ]
}

storms() {
    wine
    local program ok=0
    program=$(programs "$windows" --test chaos) || return 1
    say "two hundred storms"
    TAUTLINE_PLAIN=1 TAUTLINE_PATIENCE=6 TAUTLINE_LANES=6 TAUTLINE_STORMS=200 TAUTLINE_TEST_LIMIT=0 timeout 3000 \
        "$wine" "$program" --ignored --nocapture </dev/null >"$work/logs/storms" 2>&1 || ok=1
    tr -d '\r' <"$work/logs/storms" >&2
    row "$windows" "200 storms" $((1 - ok)) $ok 0 Wine
    return $ok
}

# Compiles the library with the Rust that its manifest promises.
oldest() {
    local version
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    rustup toolchain install "$version" --profile minimal >"$work/logs/rustup" 2>&1 ||
        cannot "Rust $version: see $work/logs/rustup"
    say "checking with Rust $version"
    if cargo "+$version" check --features testing --target-dir "$work/oldest" >"$work/logs/oldest" 2>&1; then
        row "Rust $version, x86_64-unknown-linux-gnu" yes - - - ""
    else
        row "Rust $version, x86_64-unknown-linux-gnu" "NO, see $work/logs/oldest" - - - ""
        return 1
    fi
}

case $part in
    all | check | windows | storms | i686 | armv7 | short) ;;
    *)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
        exit 2
        ;;
esac
mkdir -p "$work/logs"
need /usr/bin/gcc gcc libc6-dev
need /usr/include/openssl/ssl.h libssl-dev
preprocessor
rust
status=0
checked() {
    local compiles
    compiles=$(check "$@") || status=1
    [ "${2:-}" != library ] || compiles+=", the library"
    row "$1" "$compiles" - - - ""
}
case $part in
    all)
        windows all || status=1
        shows || status=1
        storms || status=1
        i686 || status=1
        armv7 || status=1
        for target in "${targets[@]}"; do
            case $target in "$windows" | "$i686" | "$armv7") ;; *) checked "$target" ;; esac
        done
        oldest || status=1
        ;;
    check)
        for target in "${targets[@]}"; do checked "$target"; done
        oldest || status=1
        ;;
    windows)
        windows all || status=1
        shows || status=1
        ;;
    storms) storms || status=1 ;;
    i686 | armv7) "$part" || status=1 ;;
    short)
        windows units || status=1
        checked aarch64-apple-darwin library
        checked "$i686" library
        ;;
esac
table
exit $status
