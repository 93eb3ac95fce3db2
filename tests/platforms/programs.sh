#!/usr/bin/env bash
# Shows what the example programs do under Wine: they run, and Ctrl-C closes the line first.
#
#   tests/platforms/programs.sh WORK WSCAT QUICKSTART
#
# WORK         a folder for what is made
# WSCAT, ...   the examples as programs for Windows
#
# WINEPREFIX has to be a place like target/platforms/wine, which run.sh makes, and WINE may say where Wine is. Takes python3
# and gcc for Windows. Prints a line for each claim, and ends with 0 if all of them hold.
set -euo pipefail
if [ $# != 3 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$1 wscat=$(realpath "$2") quickstart=$(realpath "$3")
wine=${WINE:-/usr/lib/wine/wine64}
export WINEDEBUG=${WINEDEBUG:--all}
mkdir -p "$work"
cd "$work"

pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT

failed=0
# claim WHAT WANTED PROGRAM [ARGUMENT]...: the program ends with this exit code.
claim() {
    local what=$1 wanted=$2 status=0
    shift 2
    timeout 60 "$wine" "$@" </dev/null >out 2>&1 || status=$?
    if [ "$status" = "$wanted" ]; then
        echo "ok: $what"
    else
        failed=1
        echo "FAILED: $what: exit code $status, and not $wanted:"
        cat out
    fi
}

x86_64-w64-mingw32-gcc -Wall -Wextra -Werror -o interrupt.exe "$here/interrupt.c"

exec {server}< <(exec python3 "$here/server.py" 2>server.log)
pids+=($!)
read -t 20 -r port <&"$server"
claim "wscat ends with 130 after Ctrl-C" 130 interrupt.exe CONNECTED "$wscat" "ws://127.0.0.1:$port"
how=
read -t 20 -r how <&"$server" || true
if [ "$how" = "close frame 1000" ]; then
    echo "ok: the server gets its close frame"
else
    failed=1
    echo "FAILED: the server gets its close frame: $how"
fi

# A server that takes the connection and never answers.
exec {silent}< <(exec python3 -c '
import signal, socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
signal.pause()')
pids+=($!)
read -t 20 -r port <&"$silent"
claim "wscat ends with 130 after Ctrl-C while it connects" 130 interrupt.exe "-> CONNECTING" "$wscat" -v \
    --connect-timeout 50 "ws://127.0.0.1:$port"
claim "quickstart runs to its end" 0 "$quickstart"
exit $failed
