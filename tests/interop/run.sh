#!/usr/bin/env bash
# Tests the client against real servers: installs what that takes, starts them on free ports, tests, stops them.
#
#   tests/interop/run.sh [PART]
#
# PART   all (the default)
#        servers    tests/interop.rs against websockets (Python) and ws (Node), plain and over TLS
#        compression  tests/interop_compression.rs: the same servers, and ws behind nginx, with each kind of takeover
#        sessions   tests/interop_session.rs: logins and requests, against a gateway on websockets
#        protocols  tests/interop_protocols.rs: examples against Socket.IO, graphql-ws and Node's inspector
#        front      tests/interop_front.rs: ws behind nginx, plain and over TLS
#        proxies    tests/interop_proxies.rs: through tinyproxy, squid, microsocks and dante; ws behind haproxy
#        brokers    tests/interop_brokers.rs: the examples mqtt and nats, against mosquitto and nats-server
#        stomp      tests/interop_stomp.rs: the example stomp, against RabbitMQ, which is killed
#        conformance  examples/autobahn.rs against the Autobahn cases, plain and over TLS; eleven minutes of processor time,
#                   or half of that with CONFORMANCE=tls in the environment, which leaves the plain ones out
#        hosts      bindings/c/tests/hosts.rs: plugins on the C interface, in applyplugin (LADSPA), sqlite3 and Python's sqlite3
#        netfault   tests/interop_netfault.rs: half-open lines, in a network namespace of the run's own; needs root
#
# Needs cargo, python3 with venv and pip, node (18.3) with npm, openssl, nginx, tinyproxy, squid, microsocks, danted, haproxy,
# mosquitto, nats-server, rabbitmq-server, cc, applyplugin, sqlite3 with its headers, ip and nft. All it makes is in
# target/interop; only those from openssl on are installed for the whole system, where they are missing, by root on Debian.
# Ends with the status of the tests, or with 77 when something can't be installed or made: it says what.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

here=tests/interop
work=$PWD/target/interop
python=$work/python/bin/python
websockets=17.4
ws=^8
protocols=(graphql@^16 graphql-ws@^6 socket.io@^4 "ws@$ws")
kosoku=0.1.0

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

# Has modules of its own, ws among them.
need_protocols() {
    local package modules=$work/protocols
    export NODE_PATH=$modules/node_modules
    command -v node >/dev/null || cannot "socket.io: there is no node"
    node -e 'require("socket.io"), require("graphql-ws/use/ws"), require("ws")' 2>/dev/null && return
    command -v npm >/dev/null || cannot "socket.io: there is no npm"
    mkdir -p "$modules"
    for package in "${protocols[@]}"; do
        echo "\"${package%@*}\": \"${package#*@}\""
    done | paste -sd, | sed 's/.*/{"private": true, "dependencies": {&}}/' >"$modules/package.json"
    install "${protocols[*]} with npm" npm install --prefix "$modules" --no-audit --no-fund
}

# need_command COMMAND PACKAGE: a command of the system's, from this package of Debian's.
need_command() {
    command -v "$1" >/dev/null || need_package "$@"
}

# need_header HEADER PACKAGE: a header of the system's, from this package of Debian's.
need_header() {
    [ -e "/usr/include/$1" ] || need_package "$@"
}

need_package() {
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        cannot "$1: there is none, and this is not root on Debian (package $2)"
    fi
    install "the list of Debian's packages" apt-get update
    # Without its service, where the runlevel decides about that.
    install "$2 with apt-get" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y --no-install-recommends "$2"
}

need_nginx() {
    # Where Debian has it, and not every user looks.
    PATH=$PATH:/usr/sbin
    need_command nginx nginx-light
}

need_proxies() {
    # Where Debian has some of them, and not every user looks.
    PATH=$PATH:/usr/sbin
    need_command tinyproxy tinyproxy
    need_command squid squid
    need_command microsocks microsocks
    need_command danted dante-server
    need_command haproxy haproxy
}

# A network namespace with nothing but a loopback of its own, and the rules of the faults.
need_namespace() {
    local log=$work/logs/netfault.log why=
    PATH=$PATH:/usr/sbin:/sbin
    if [ "$(id -u)" != 0 ]; then
        why="this is not root"
    else
        need_command ip iproute2
        need_command nft nftables
        namespace=tautline-netfault-$$
        {
            ip netns add "$namespace" &&
                ip -n "$namespace" link set lo up &&
                ip netns exec "$namespace" nft -f "$here/netfault.nft"
        } >"$log" 2>&1 || why=$(tail -n 1 "$log")
    fi
    [ -n "$why" ] || return 0
    say "CAN'T MAKE A NETWORK NAMESPACE with faults in it: $why"
    exit 77
}

need_certificates() {
    need_command openssl openssl
    local certs=$work/certs log=$work/logs/certs.log
    # Made anew when they end within a day, or when there was less to make.
    [ -e "$certs/client.p12" ] && openssl x509 -in "$certs/good.pem" -noout -checkend 86400 >/dev/null 2>&1 && return
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
namespace=

# Ends what is left in the namespace, which lives as long as its last process, and takes its name away.
stop_namespace() {
    local pid signal=TERM tries=100
    while [ -n "$(ip netns pids "$namespace" 2>/dev/null)" ]; do
        [ "$tries" != 0 ] || signal=KILL
        for pid in $(ip netns pids "$namespace"); do
            kill -s "$signal" "$pid" 2>/dev/null || true
        done
        tries=$((tries - 1))
        sleep 0.05
    done
    ip netns del "$namespace" 2>/dev/null || true
}

# Ends the processes that this shell has started.
stop_started() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
}

stop() {
    local status=$? pid
    trap - EXIT
    stop_started
    # An nginx that is left has been started by a test that could not stop it.
    for pid in $(cat "$ports"/*/nginx.pid 2>/dev/null); do
        kill "$pid" 2>/dev/null || true
    done
    [ -z "$namespace" ] || stop_namespace
    rm -rf "$ports"
    exit "$status"
}

# free_ports COUNT: ports that were free a moment ago, for servers that can't choose theirs themselves.
free_ports() {
    python3 -c '
import socket, sys
all = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(one.getsockname()[1] for one in all))' "$1"
}

# Whether there is an IPv6 loopback.
has_ipv6() {
    python3 -c 'import socket; socket.socket(socket.AF_INET6).bind(("::1", 0))' 2>/dev/null
}

# start NAME URL COMMAND...: starts a server, which writes its port to the file that --port-file names, waits for that
# port, and exports TAUTLINE_NAME: the URL with the port. One that was started already is left alone.
start() {
    local name=$1 url=$2 log=$work/logs/$1.log tries=600
    shift 2
    [ -e "$ports/$name" ] && return
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

# start_nginx NAME: starts nginx in front of NODE_WS, in a directory of its own, and exports that as TAUTLINE_NAME_DIR
# and the URLs as TAUTLINE_NAME_WS, TAUTLINE_NAME_WSS and so on. It can't choose its ports itself: it gets some that were
# free a moment ago, and others if they are not any more.
start_nginx() {
    local name=$1 dir=$ports/$1 log=$work/logs/$1.log user= ipv6= round tries plain tls expired wrong_name client tls12
    # As anybody but root, it stays who it is.
    [ "$(id -u)" != 0 ] || user="user $(id -un) $(id -gn);"
    for round in 1 2 3 4 5; do
        rm -rf "$dir"
        mkdir -p "$dir/flags" "$dir/temp"
        read -r plain tls expired wrong_name client tls12 < <(free_ports 6)
        ! has_ipv6 || ipv6="listen [::1]:$tls ssl;"
        echo 'bob:{PLAIN}correct horse' >"$dir/users"
        sed -e "s/@PLAIN@/$plain/; s/@IPV6@/$ipv6/; s/@TLS@/$tls/; s/@EXPIRED@/$expired/; s/@WRONG_NAME@/$wrong_name/
            s/@CLIENT@/$client/; s/@TLS12@/$tls12/; s/@UPSTREAM@/${TAUTLINE_NODE_WS##*:}/; s/@USER@/$user/" \
            "$here/nginx.conf" >"$dir/nginx.conf"
        nginx -p "$dir/" -c nginx.conf >"$log" 2>&1 &
        pids+=("$!")
        tries=600
        # It says its pid once it listens.
        until [ -s "$dir/nginx.pid" ]; do
            tries=$((tries - 1))
            if [ "$tries" = 0 ] || ! kill -0 "$!" 2>/dev/null; then
                grep -q 'bind()' "$log" && continue 2
                break 2
            fi
            sleep 0.05
        done
        export "TAUTLINE_${name}_DIR=$dir"
        export "TAUTLINE_${name}_WS=ws://127.0.0.1:$plain" "TAUTLINE_${name}_WSS=wss://localhost:$tls"
        export "TAUTLINE_${name}_IPV6=${ipv6:+wss://[::1]:$tls}" "TAUTLINE_${name}_EXPIRED=wss://localhost:$expired"
        export "TAUTLINE_${name}_WRONG_NAME=wss://localhost:$wrong_name" "TAUTLINE_${name}_CLIENT=wss://localhost:$client"
        export "TAUTLINE_${name}_TLS12=wss://localhost:$tls12"
        return
    done
    cat "$log" >&2
    say "nginx does not start: $name, round $round"
    exit 1
}

# start_proxy NAME PORTS EDITS CONFIGURATION COMMAND...: starts a proxy on as many ports as there are words in PORTS, and
# exports each as TAUTLINE_NAME_PORT, with that word for PORT. They, and what the sed script EDITS puts in, stand in the
# configuration, which may be - for none, and in the command. A test that stops the proxy and starts it again finds its
# process in TAUTLINE_NAME_PID, and its command, word by line, in TAUTLINE_NAME_RUN.
start_proxy() {
    local name=$1 words edits=$3 configuration=$4 dir=$ports/$1 log=$work/logs/$1.log round tries numbers place run command
    read -ra words <<<"$2"
    shift 4
    mkdir -p "$dir"
    for round in 1 2 3 4 5; do
        read -ra numbers < <(free_ports "${#words[@]}")
        run="s|@DIR@|$dir|g; s|@CERTS@|$work/certs|g; $edits"
        for place in "${!words[@]}"; do
            run+="; s/@${words[place]}@/${numbers[place]}/"
            export "TAUTLINE_${name}_${words[place]}=${numbers[place]}"
        done
        [ "$configuration" = - ] || sed -e "$run" "$here/$configuration" >"$dir/$configuration"
        run=$(printf '%s\n' "$@" | sed -e "$run")
        mapfile -t command <<<"$run"
        "${command[@]}" >"$log" 2>&1 &
        pids+=("$!")
        export "TAUTLINE_${name}_PID=$!" "TAUTLINE_${name}_RUN=$run"
        for place in "${numbers[@]}"; do
            tries=600
            until (exec 3<>"/dev/tcp/127.0.0.1/$place") 2>/dev/null; do
                tries=$((tries - 1))
                if [ "$tries" = 0 ] || ! kill -0 "${pids[-1]}" 2>/dev/null; then
                    continue 3
                fi
                sleep 0.05
            done
        done
        return
    done
    cat "$log" >&2
    say "the proxy $name does not start: ${command[*]}"
    exit 1
}

# start_mosquitto NAME: starts mosquitto, in a directory of its own, and exports its URL as TAUTLINE_NAME and its log as
# TAUTLINE_NAME_LOG. It gets a port as nginx does.
start_mosquitto() {
    local name=$1 dir=$ports/$1 log=$work/logs/$1.log user= round tries port
    [ "$(id -u)" != 0 ] || user="user $(id -un)"
    for round in 1 2 3 4 5; do
        rm -rf "$dir"
        mkdir -p "$dir"
        port=$(free_ports 1)
        mosquitto_passwd -c -b "$dir/passwords" bob "open sesame"
        sed -e "s/@PORT@/$port/; s/@USER@/$user/; s|@DIR@|$dir|" "$here/mosquitto.conf" >"$dir/mosquitto.conf"
        mosquitto -c "$dir/mosquitto.conf" >"$log" 2>&1 &
        pids+=("$!")
        tries=600
        until grep -q ' running$' "$log"; do
            tries=$((tries - 1))
            if [ "$tries" = 0 ] || ! kill -0 "$!" 2>/dev/null; then
                continue 2
            fi
            sleep 0.05
        done
        export "TAUTLINE_$name=ws://127.0.0.1:$port" "TAUTLINE_${name}_LOG=$log"
        return
    done
    cat "$log" >&2
    say "mosquitto does not start: $name, round $round"
    exit 1
}

# start_nats NAME: the same for nats-server, which says its ports itself; its process is TAUTLINE_NAME_PID.
start_nats() {
    local name=$1 dir=$ports/$1 log=$work/logs/$1.log tries=600
    mkdir -p "$dir"
    nats-server -c "$here/nats.conf" --ports_file_dir "$dir" >"$log" 2>&1 &
    pids+=("$!")
    export "TAUTLINE_${name}_PID=$!"
    until grep -qs '"websocket":\["ws:[^"]*"\]}$' "$dir"/*.ports; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ] || ! kill -0 "$!" 2>/dev/null; then
            cat "$log" >&2
            say "nats-server does not start: $name"
            exit 1
        fi
        sleep 0.05
    done
    export "TAUTLINE_$name=$(sed 's/.*"websocket":\["\([^"]*\)".*/\1/' "$dir"/*.ports)" "TAUTLINE_${name}_LOG=$log"
}

# keep_up COMMAND...: runs a command again whenever it ends, until this shell is told to end.
keep_up() {
    local child=
    trap '[ -z "$child" ] || { kill "$child" && wait "$child"; } 2>/dev/null; exit' TERM
    while :; do
        "$@" &
        child=$!
        wait "$child" || true
        child=
        sleep 0.05
    done
}

# start_rabbitmq NAME: the same for RabbitMQ, which is started again whenever it is killed. Its process is in the file
# TAUTLINE_NAME_PID. It can't do without epmd, the list of Erlang's programs: this one is its own.
start_rabbitmq() {
    local name=$1 dir=$ports/$1 log=$work/logs/$1.log programs round tries port epmd distribution
    # Debian's commands are for its service, as its user.
    programs=$(echo /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin)
    for round in 1 2 3 4 5; do
        rm -rf "$dir"
        mkdir -p "$dir/home"
        read -r port epmd distribution < <(free_ports 3)
        sed -e "s/@PORT@/$port/" "$here/rabbitmq.conf" >"$dir/rabbitmq.conf"
        echo '[rabbitmq_web_stomp].' >"$dir/plugins"
        ERL_EPMD_ADDRESS=127.0.0.1 epmd -port "$epmd" >"$work/logs/epmd.log" 2>&1 &
        pids+=("$!")
        # RabbitMQ would start one of its own that outlives it.
        tries=600
        until ERL_EPMD_PORT=$epmd epmd -names >/dev/null 2>&1; do
            tries=$((tries - 1))
            if [ "$tries" = 0 ] || ! kill -0 "${pids[-1]}" 2>/dev/null; then
                continue 2
            fi
            sleep 0.05
        done
        (
            export HOME=$dir/home ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=$epmd
            export RABBITMQ_NODENAME=$name@localhost RABBITMQ_DIST_PORT=$distribution RABBITMQ_PID_FILE=$dir/pid
            export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
            export RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE=$dir/rabbitmq.conf
            export RABBITMQ_ENABLED_PLUGINS_FILE=$dir/plugins
            export RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_LOG_BASE=$dir/log
            trap - EXIT
            keep_up "$programs/rabbitmq-server"
        ) >"$log" 2>&1 &
        # Ahead of epmd, which it needs to the end.
        pids=("$!" ${pids[@]+"${pids[@]}"})
        tries=1200
        until grep -q 'Server startup complete' "$log"; do
            tries=$((tries - 1))
            if [ "$tries" = 0 ] || grep -q eaddrinuse "$log"; then
                kill "${pids[0]}"
                wait "${pids[0]}" 2>/dev/null || true
                continue 2
            fi
            sleep 0.05
        done
        export "TAUTLINE_$name=ws://127.0.0.1:$port/ws" "TAUTLINE_${name}_PID=$dir/pid"
        return
    done
    cat "$log" >&2
    say "RabbitMQ does not start: $name, round $round"
    exit 1
}

# What the parts start alike.
common() {
    need_python
    need_node
    need_certificates
    export TAUTLINE_CA=$work/certs/ca.pem
    py=("$python" "$here/echo.py")
    node=(node "$here/ws-server.js" --subprotocol chat)
    good=(--cert "$work/certs/good.pem" --key "$work/certs/good.key")
    start PY_BASIC ws://127.0.0.1 "${py[@]}" --basic "bob:correct horse"
    start PY_CHAT ws://127.0.0.1 "${py[@]}" --subprotocol chat
    start NODE_WS ws://127.0.0.1 "${node[@]}"
}

servers() {
    say "starting servers"
    common
    local expired=(--cert "$work/certs/expired.pem" --key "$work/certs/expired.key")
    local wrong_name=(--cert "$work/certs/wrong-name.pem" --key "$work/certs/wrong-name.key")
    start PY_WS ws://127.0.0.1 "${py[@]}"
    start PY_WSS wss://localhost "${py[@]}" "${good[@]}"
    start PY_EXPIRED wss://localhost "${py[@]}" "${expired[@]}"
    start PY_WRONG_NAME wss://localhost "${py[@]}" "${wrong_name[@]}"
    start PY_CLIENT wss://localhost "${py[@]}" "${good[@]}" --client-ca "$TAUTLINE_CA"
    start PY_PINGING ws://127.0.0.1 "${py[@]}" --ping 0.05
    start NODE_WSS wss://localhost "${node[@]}" "${good[@]}"
    start NODE_EXPIRED wss://localhost "${node[@]}" "${expired[@]}"
    start NODE_WRONG_NAME wss://localhost "${node[@]}" "${wrong_name[@]}"
    export TAUTLINE_PY_IPV6=
    if has_ipv6; then
        start PY_IPV6 'wss://[::1]' "${py[@]}" "${good[@]}" --host ::1
    else
        say "this machine has no IPv6 loopback: one test does nothing"
    fi
    cargo test --test interop -- --ignored
}

compression() {
    local whose
    need_nginx
    say "starting servers that compress"
    common
    start PY_WS ws://127.0.0.1 "${py[@]}"
    start PY_WSS wss://localhost "${py[@]}" "${good[@]}"
    start NODE_WSS wss://localhost "${node[@]}" "${good[@]}"
    for whose in client server; do
        start "PY_${whose^^}_ALONE" ws://127.0.0.1 "${py[@]}" --alone "$whose"
        start "NODE_${whose^^}_ALONE" ws://127.0.0.1 "${node[@]}" --alone "$whose"
    done
    start_nginx NGINX_DEFLATE
    cargo test --test interop_compression -- --ignored
}

sessions() {
    say "starting the gateway"
    common
    start GATEWAY ws://127.0.0.1 "${py[@]}" --gateway "open sesame"
    start GATEWAY_TLS wss://localhost "${py[@]}" --gateway "open sesame" "${good[@]}"
    cargo test --test interop_session -- --ignored
}

protocols() {
    need_protocols
    say "starting servers of protocols"
    start SOCKET_IO ws://127.0.0.1 node "$here/socketio-server.js"
    start GRAPHQL_WS ws://127.0.0.1 node "$here/graphql-ws-server.js"
    start INSPECTED ws://127.0.0.1 node "$here/inspected.js"
    start INSPECTED_ANEW ws://127.0.0.1 node "$here/inspected.js"
    start OTHER_WS ws://127.0.0.1 node "$here/ws-server.js"
    cargo build --example socket_io --example graphql_ws --example json_rpc
    # They wait more than they work.
    cargo test --test interop_protocols -- --ignored --test-threads 8
}

front() {
    need_nginx
    say "starting nginx"
    common
    start_nginx NGINX
    # One that a test stops.
    start_nginx NGINX_STOPPED
    # They wait more than they work.
    cargo test --test interop_front -- --ignored --test-threads 8
}

proxies() {
    local upstream upstream_tls tinyproxy=(tinyproxy -d -c @DIR@/tinyproxy.conf)
    local login='s/@IDLE@/600/; s/@LOGIN@/BasicAuth bob sesame\nConnectPort @UPSTREAM@\nConnectPort @UPSTREAM_TLS@/'
    need_proxies
    say "starting proxies"
    common
    start NODE_WSS wss://localhost "${node[@]}" "${good[@]}"
    upstream="s/@UPSTREAM@/${TAUTLINE_NODE_WS##*:}/; s/@UPSTREAM_TLS@/${TAUTLINE_NODE_WSS##*:}/"
    start_proxy TINYPROXY PORT 's/@IDLE@/600/; s/@LOGIN@//' tinyproxy.conf "${tinyproxy[@]}"
    start_proxy TINYPROXY_LOGIN PORT "$login; $upstream" tinyproxy.conf "${tinyproxy[@]}"
    start_proxy TINYPROXY_IDLE PORT 's/@IDLE@/2/; s/@LOGIN@//' tinyproxy.conf "${tinyproxy[@]}"
    start_proxy SQUID "PORT TLS" "$upstream" squid.conf squid -N -f @DIR@/squid.conf
    start_proxy MICROSOCKS PORT '' - microsocks -i 127.0.0.1 -p @PORT@
    start_proxy MICROSOCKS_LOGIN PORT '' - microsocks -i 127.0.0.1 -p @PORT@ -u bob -P 'correct horse'
    start_proxy DANTE PORT 's/@METHOD@/none/; s/@IDLE@/2/' danted.conf danted -f @DIR@/danted.conf -p @DIR@/pid
    start_proxy DANTE_LOGIN PORT 's/@METHOD@/username/; s/@IDLE@/60/' danted.conf danted -f @DIR@/danted.conf -p @DIR@/pid
    start_proxy HAPROXY "PLAIN TLS CLIENT TCP PROXY SILENT" "$upstream; s/@TINYPROXY@/$TAUTLINE_TINYPROXY_PORT/" haproxy.cfg \
        haproxy -f @DIR@/haproxy.cfg
    # Some that tests stop.
    start_proxy TINYPROXY_STOPPED PORT 's/@IDLE@/600/; s/@LOGIN@//' tinyproxy.conf "${tinyproxy[@]}"
    start_proxy MICROSOCKS_STOPPED PORT '' - microsocks -i 127.0.0.1 -p @PORT@
    # They wait more than they work.
    cargo test --test interop_proxies -- --ignored --test-threads 8
}

brokers() {
    # Where Debian has mosquitto, and not every user looks.
    PATH=$PATH:/usr/sbin
    command -v python3 >/dev/null || cannot "a free port for mosquitto: there is no python3"
    need_command mosquitto mosquitto
    need_command nats-server nats-server
    say "starting mosquitto and nats-server"
    start_mosquitto MOSQUITTO
    start_nats NATS
    # One that a test tells to shut down.
    start_nats NATS_LEAVING
    cargo build --quiet --example mqtt --example nats
    # They wait more than they work.
    cargo test --test interop_brokers -- --ignored --test-threads 8
}

stomp() {
    command -v python3 >/dev/null || cannot "free ports for RabbitMQ: there is no python3"
    # Where Debian has it, and not every user looks.
    PATH=$PATH:/usr/sbin
    need_command rabbitmq-server rabbitmq-server
    say "starting RabbitMQ"
    start_rabbitmq RABBITMQ
    cargo build --quiet --example stomp
    # They share a broker, and one kills it.
    cargo test --test interop_stomp -- --ignored --test-threads 1
}

# fuzzed NAME KIND OPTIONS CASES...: runs the client against the cases that the server is given, plainly or over TLS.
fuzzed() {
    local dir=$work/conformance/$1-$2 kind=$1 options=$3 log=$work/logs/conformance-$1-$2.log port pid url tries=600
    shift 3
    mkdir -p "$dir"
    port=$(free_ports 1)
    "$work/kosoku/bin/python" "$here/fuzzing_server.py" -m fuzzingserver "127.0.0.1:$port" -o "$dir" "$@" >"$log" 2>&1 &
    pid=$!
    pids+=("$pid")
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ] || ! kill -0 "$pid" 2>/dev/null; then
            cat "$log" >&2
            say "the fuzzing server does not listen"
            return 1
        fi
        sleep 0.05
    done
    url=ws://127.0.0.1:$port
    if [ "$kind" = tls ]; then
        start_proxy FUZZING PORT "s/@UPSTREAM@/$port/" conformance.cfg haproxy -f @DIR@/conformance.cfg
        url=wss://localhost:$TAUTLINE_FUZZING_PORT
        options+=" --ca $work/certs/ca.pem"
    fi
    # shellcheck disable=SC2086 # words
    "${CARGO_TARGET_DIR:-target}"/debug/examples/autobahn $options "$url" >>"$log"
    # It ends by itself once the reports are written; its status is worse than ours only where ours says so.
    wait "$pid" || true
}

# conforms KIND: all the cases. 13.2 is about an offer that asks for no takeover, the others are about one that asks for
# nothing.
conforms() {
    fuzzed "$1" plain "" -x '13.2.*'
    fuzzed "$1" alone --no-takeover -i '13.2.*'
    python3 "$here/conformance.py" "$1" "$work/conformance/$1-plain/index.json" "$work/conformance/$1-alone/index.json"
}

conformance() {
    local kind status=0 runs=()
    "$work/kosoku/bin/python" -c 'import kosoku' 2>/dev/null || {
        need_python
        install "a Python environment" python3 -m venv --clear "$work/kosoku"
        install "kosoku $kosoku with pip" \
            "$work/kosoku/bin/python" -m pip install --disable-pip-version-check "kosoku==$kosoku"
    }
    PATH=$PATH:/usr/sbin
    need_command haproxy haproxy
    need_certificates
    cargo build --quiet --example autobahn
    rm -rf "$work/conformance"
    say "running the conformance cases"
    # At once: in either, the client and the server wait for each other.
    for kind in ${CONFORMANCE:-ws tls}; do
        (
            pids=()
            trap stop_started EXIT
            conforms "$kind"
        ) &
        runs+=("$!")
        pids+=("$!")
    done
    for kind in "${runs[@]}"; do
        wait "$kind" || status=1
    done
    return "$status"
}

hosts() {
    need_command cc gcc
    need_command applyplugin ladspa-sdk
    need_header ladspa.h ladspa-sdk
    need_command sqlite3 sqlite3
    need_header sqlite3ext.h libsqlite3-dev
    say "running plugins in their hosts"
    TAUTLINE_HOSTS=1 cargo test --manifest-path bindings/c/Cargo.toml --target-dir target --test hosts -- \
        --nocapture --test-threads 1
}

netfault() {
    local ahead=(chrt -r 1)
    need_namespace
    # With the network, which is not there in the namespace.
    cargo test --test interop_netfault --no-run
    say "breaking lines in the namespace $namespace"
    # The bounds are tight, and whatever else runs on this machine must not count.
    "${ahead[@]}" true 2>/dev/null || ahead=(nice -n -20)
    # One table after the other.
    "${ahead[@]}" ip netns exec "$namespace" cargo test --offline --test interop_netfault -- \
        --ignored --nocapture --test-threads 1
}

part=${1:-all}
case $part in
all | servers | compression | sessions | protocols | front | proxies | brokers | stomp | conformance | hosts | netfault) ;;
*)
    say "there is no part $part; see the head of $here/run.sh"
    exit 2
    ;;
esac
mkdir -p "$work/logs"
ports=$(mktemp -d "$work/ports.XXXXXX")
trap stop EXIT
case $part in
all)
    servers
    compression
    sessions
    protocols
    front
    proxies
    brokers
    conformance
    hosts
    netfault
    # The heaviest to install comes last: where it can't be, the others have run.
    stomp
    ;;
*) "$part" ;;
esac
