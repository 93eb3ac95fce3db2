#!/usr/bin/env bash
# Shows the C interface as a DLL under Wine: what it exports, and that programs in C can use it.
#
#   tests/platforms/dll.sh WORK TARGET
#
# WORK     a folder for what is made
# TARGET   where cargo puts what it builds
#
# WINEPREFIX has to be a place like target/platforms/wine, which run.sh makes, and WINE may say where Wine is. Takes cargo,
# python3 and gcc for Windows. Prints a line for each claim, and ends with 0 if all of them hold.
# shellcheck disable=SC2317  # `claim` calls the functions
set -euo pipefail
if [ $# != 2 ]; then
    sed -n '2,/^# shell/{/^# shell/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binding=$here/../../bindings/c
mkdir -p "$1" "$2"
work=$1 target=$(realpath "$2")
wine=${WINE:-/usr/lib/wine/wine64}
export WINEDEBUG=${WINEDEBUG:--all}
cd "$work"

cargo build --manifest-path "$binding/Cargo.toml" --target x86_64-pc-windows-gnu --target-dir "$target" >cargo.log 2>&1 ||
    { cat cargo.log >&2; exit 1; }
built=$target/x86_64-pc-windows-gnu/debug
cp "$built/tautline_c.dll" .

pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
exec {server}< <(exec python3 "$here/server.py" 2>server.log)
pids+=($!)
read -t 20 -r port <&"$server"
url=ws://127.0.0.1:$port

failed=0
# claim WHAT COMMAND...: it ends with 0.
claim() {
    local what=$1
    shift
    if "$@" >out 2>&1; then
        echo "ok: $what"
    else
        failed=1
        echo "FAILED: $what:"
        cat out
    fi
}

gcc() { x86_64-w64-mingw32-gcc -Wall -Wextra -Werror -pedantic-errors -I"$binding/include" "$@"; }

# says CODE TEXT PROGRAM [ARGUMENT]...: the program ends with this code and prints this text, in which an asterisk is any text.
says() {
    local wanted=$1 text=$2 status=0 said
    shift 2
    timeout 60 "$wine" "$@" </dev/null >said 2>&1 || status=$?
    said=$(tr -d '\r' <said)
    echo "exit code $status: $said"
    # shellcheck disable=SC2053  # the text is a pattern
    [ "$status" = "$wanted" ] && [[ $said = $text ]]
}

exports() {
    x86_64-w64-mingw32-objdump -p tautline_c.dll |
        sed -n '/^\[Ordinal\/Name Pointer\] Table/,/^$/s/^.*[0-9]\] //p' | sort >exported
    # A declaration is a return type at the beginning of a line and a name; a type of a function has the name in parentheses.
    sed -n 's/^[a-z].*[ *]\(tautline_[a-z0-9_]*\)(.*/\1/p' "$binding/include/tautline.h" | sort >declared
    [ -s declared ] && diff declared exported
}

# gets_close_frame: the server says so of the client that has just left.
gets_close_frame() {
    local how
    read -t 20 -r how <&"$server" && echo "$how" && [ "$how" = "close frame 1000" ]
}

claim "it exports what the header declares, and nothing else" exports
claim "a program of the first standard of C is linked to it" \
    gcc -std=c89 -o line.exe "$here/line.c" "$built/libtautline_c.dll.a"
claim "the program connects, sends, receives and closes" \
    says 0 $'ready\nreceived: greetings\ngone; 0 never written' line.exe "$url" greetings
claim "the server gets its close frame" gets_close_frame
claim "a program that loads it is made" gcc -o unload.exe "$here/unload.c"
claim "the library stays when it is unloaded with a client" says 0 "the library is there" unload.exe tautline_c.dll "$url"
claim "the server gets the close frame of that client" gets_close_frame
claim "a URL that can't be used is an error" says 1 "open: the URL or an option can't be used: *" line.exe http://h text
kill "${pids[0]}"
claim "a server that is gone is an error" says 1 "*line: the time is over: *Connection refused*" line.exe "$url" text
exit $failed
