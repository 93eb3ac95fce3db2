#!/usr/bin/env bash
# Tests the client against real servers: installs what that takes, starts them on free ports, tests, stops them.
#
#   tests/interop/run.sh [PART]
#
# PART   all (the default)
#        servers    tests/interop.rs against websockets (Python) and ws (Node), plain and over TLS
#
# Needs cargo, python3 with venv and pip, node (18.3) with npm, and openssl. All it makes is in target/interop.
# Ends with the status of the tests, or with 77 when something can't be installed: it says what.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

here=tests/interop
work=$PWD/target/interop
python=$work/python/bin/python
websockets=17.4
ws=^8

say() { echo "interop: $*" >&2; }

cannot() {
    say "CAN'T INSTALL $*"
    exit 77
}

# install WHAT COMMAND...: what the command prints matters only when it fails.
install() {
    local what=$1 log=$work/logs/install.log
    shift
    say "installing $what"
    "$@" >"$log" 2>&1 && return
    tail -n 20 "$log" >&2
    cannot "$what: the command failed; what it said is in $log"
}

need_python() {
    "$python" -c "import websockets; assert websockets.__version__ == '$websockets'" 2>/dev/null && return
    command -v python3 >/dev/null || cannot "websockets: there is no python3"
    python3 -c 'import ensurepip, venv' 2>/dev/null || cannot "websockets: python3 has no venv (Debian: python3-venv)"
    install "a Python environment" python3 -m venv --clear "$work/python"
    install "websockets $websockets with pip" "$python" -m pip install --disable-pip-version-check "websockets==$websockets"
}

need_node() {
    export NODE_PATH=$work/node/node_modules
    command -v node >/dev/null || cannot "ws: there is no node"
    node -e 'require("ws")' 2>/dev/null && return
    command -v npm >/dev/null || cannot "ws: there is no npm"
    mkdir -p "$work/node"
    echo "{\"private\": true, \"dependencies\": {\"ws\": \"$ws\"}}" >"$work/node/package.json"
    install "ws $ws with npm" npm install --prefix "$work/node" --no-audit --no-fund
}

need_openssl() {
    command -v openssl >/dev/null && return
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        cannot "openssl: its command line is missing, and this is not root on Debian"
    fi
    install "the list of Debian's packages" apt-get update
    install "openssl with apt-get" apt-get install -y --no-install-recommends openssl
}

need_certificates() {
    need_openssl
    local certs=$work/certs log=$work/logs/certs.log
    # Made anew when they end within a day.
    openssl x509 -in "$certs/good.pem" -noout -checkend 86400 >/dev/null 2>&1 && return
    say "making certificates"
    rm -rf "$certs" "$certs.new"
    if ! "$here/certs.sh" "$certs.new" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        say "making certificates failed"
        exit 1
    fi
    mv "$certs.new" "$certs"
}

pids=()

stop() {
    local status=$? pid
    trap - EXIT
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$ports"
    exit "$status"
}

# start NAME URL COMMAND...: starts a server, which writes its port to the file that --port-file names, waits for that
# port, and exports TAUTLINE_NAME: the URL with the port.
start() {
    local name=$1 url=$2 log=$work/logs/$1.log tries=600
    shift 2
    "$@" --port-file "$ports/$name" >"$log" 2>&1 &
    pids+=("$!")
    until [ -e "$ports/$name" ]; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ] || ! kill -0 "$!" 2>/dev/null; then
            cat "$log" >&2
            say "the server $name does not listen: $*"
            exit 1
        fi
        sleep 0.05
    done
    export "TAUTLINE_$name=$url:$(cat "$ports/$name")"
}

servers() {
    need_python
    need_node
    need_certificates
    local py=("$python" "$here/echo.py") node=(node "$here/ws-server.js" --subprotocol chat)
    local good=(--cert "$work/certs/good.pem" --key "$work/certs/good.key")
    local expired=(--cert "$work/certs/expired.pem" --key "$work/certs/expired.key")
    local wrong_name=(--cert "$work/certs/wrong-name.pem" --key "$work/certs/wrong-name.key")
    say "starting servers"
    export TAUTLINE_CA=$work/certs/ca.pem
    start PY_WS ws://127.0.0.1 "${py[@]}"
    start PY_WSS wss://localhost "${py[@]}" "${good[@]}"
    start PY_EXPIRED wss://localhost "${py[@]}" "${expired[@]}"
    start PY_WRONG_NAME wss://localhost "${py[@]}" "${wrong_name[@]}"
    start PY_PINGING ws://127.0.0.1 "${py[@]}" --ping 0.05
    start PY_BASIC ws://127.0.0.1 "${py[@]}" --basic "bob:correct horse"
    start PY_CHAT ws://127.0.0.1 "${py[@]}" --subprotocol chat
    start NODE_WS ws://127.0.0.1 "${node[@]}"
    start NODE_WSS wss://localhost "${node[@]}" "${good[@]}"
    start NODE_EXPIRED wss://localhost "${node[@]}" "${expired[@]}"
    start NODE_WRONG_NAME wss://localhost "${node[@]}" "${wrong_name[@]}"
    export TAUTLINE_PY_IPV6=
    if "$python" -c 'import socket; socket.socket(socket.AF_INET6).bind(("::1", 0))' 2>/dev/null; then
        start PY_IPV6 'wss://[::1]' "${py[@]}" "${good[@]}" --host ::1
    else
        say "this machine has no IPv6 loopback: one test does nothing"
    fi
    cargo test --test interop -- --ignored
}

part=${1:-all}
case $part in
all | servers) ;;
*)
    say "there is no part $part; see the head of $here/run.sh"
    exit 2
    ;;
esac
mkdir -p "$work/logs"
ports=$(mktemp -d "$work/ports.XXXXXX")
trap stop EXIT
case $part in
all) servers ;;
*) "$part" ;;
esac
