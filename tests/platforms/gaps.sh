#!/usr/bin/env bash
# Shows the gaps of Wine, a line each: see gaps.c.
#
#   tests/platforms/gaps.sh WORK
#
# WORK   a folder for certificates and the program, which is made
#
# WINEPREFIX has to be a place like target/platforms/wine, which run.sh makes, and WINE may say where Wine is. Takes openssl
# and gcc for Windows. Ends with 0 if it could look, whatever it saw.
set -euo pipefail
if [ $# != 1 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wine=${WINE:-/usr/lib/wine/wine64}
export WINEDEBUG=${WINEDEBUG:--all}
mkdir -p "$1"
cd "$1"

certificates() {
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj "/CN=an authority of tests $$" &&
        openssl req -newkey rsa:2048 -nodes -keyout leaf.key -subj /CN=localhost -out request &&
        openssl x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -outform der -out leaf.der &&
        openssl x509 -in ca.pem -outform der -out ca.der
}

certificates >openssl.log 2>&1 || { cat openssl.log >&2; exit 2; }
x86_64-w64-mingw32-gcc -Wall -Wextra -Werror -o gaps.exe "$here/gaps.c" -lsecur32 -lcrypt32 -lws2_32
status=0
timeout 60 "$wine" gaps.exe leaf.der ca.der </dev/null >out 2>&1 || status=$?
tr -d '\r' <out
exit $status
