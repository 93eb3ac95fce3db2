#!/usr/bin/env bash
# Shows TLS on Windows, against a server outside: Wine has no TLS server.
#
#   tests/platforms/tls.sh WORK WSCAT [RUSTLS]
#
# WORK     a folder for certificates and programs, which is made
# WSCAT    the example wscat as a program for Windows, with native-tls
# RUSTLS   the same with rustls
#
# WINEPREFIX has to be a place like target/platforms/wine, which run.sh makes, and WINE may say where Wine is. Takes
# openssl, python3 and gcc for Windows. Prints a line for each claim, and ends with 0 if all of them hold. The letters of
# gaps are those of gaps.c.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$1 wscat=$(realpath "$2") rustls=${3:+$(realpath "$3")}
wine=${WINE:-/usr/lib/wine/wine64}
export WINEDEBUG=${WINEDEBUG:--all}
mkdir -p "$work/served"
cd "$work"

pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT

# serve NAME: serves TLS with the chain and key of this name. Sets `port`.
serve() {
    exec {said}< <(exec python3 "$here/server.py" "$1.chain" "$1.key" 2>>server.log)
    pids+=($!)
    read -t 20 -r port <&"$said"
}

failed=0
# claim WHAT WORDS OPTION...: wscat with these options gets its message back if WORDS is "hello", and otherwise can't connect
# and says these words.
claim() {
    local what=$1 words=$2 status=0 wanted=1
    shift 2
    [ "$words" != hello ] || wanted=0
    timeout 60 "$wine" "$program" -q --once "$@" <message >out 2>&1 || status=$?
    if [ "$status" = "$wanted" ] && grep -qF -- "$words" out; then
        echo "ok: $what"
    else
        failed=1
        echo "FAILED: $what: exit code $status, and not $wanted with \"$words\":"
        cat out
    fi
}

# issue NAME DAYS [EXTENSION]: a certificate for localhost, and the chain with its authority.
issue() {
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n%s\n' "${3:-}" >extensions
    openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -subj /CN=localhost -out request
    openssl ca -batch -config ca.conf -in request -out "$1.pem" -notext "${@:4}" -days "$2" -extfile extensions
    cat "$1.pem" ca.pem >"$1.chain"
}

certificates() {
    rm -rf index* serial* crlnumber*
    touch index
    cat >ca.conf <<'CONF'
[ca]
default_ca = ours
[ours]
certificate = ca.pem
private_key = ca.key
database = index
new_certs_dir = .
rand_serial = yes
unique_subject = no
default_md = sha256
default_crl_days = 2
policy = any
[any]
commonName = supplied
CONF
    openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj "/CN=an authority of tests $$" \
        -addext keyUsage=critical,keyCertSign,cRLSign
    local list=crlDistributionPoints=URI:$1
    issue bare 2
    issue listed 2 "$list"
    issue revoked 2 "$list"
    issue expired 1 "$list" -startdate 20200101000000Z -enddate 20200102000000Z
    openssl ca -config ca.conf -revoke revoked.pem
    openssl ca -config ca.conf -gencrl -out list.pem
    openssl crl -in list.pem -outform der -out served/ca.crl
}

fingerprint() { openssl x509 -in "$1.pem" -noout -fingerprint -sha256 | cut -d= -f2; }

exec {said}< <(exec python3 -u -m http.server --bind 127.0.0.1 --directory served 0 2>>server.log)
pids+=($!)
# "Serving HTTP on 127.0.0.1 port 4711 ..."
read -t 20 -r _ _ _ _ _ port _ <&"$said"
list=http://127.0.0.1:$port/ca.crl
certificates "$list" >openssl.log 2>&1 || { cat openssl.log >&2; exit 1; }
x86_64-w64-mingw32-gcc -Wall -Wextra -Werror -o crl.exe "$here/crl.c" -lcryptnet -lcrypt32
echo hello >message

program=$wscat
unknown="was issued by nobody whom this system trusts"
serve bare
bare=wss://localhost:$port pin=$(fingerprint bare) other=$(fingerprint listed)
claim "any certificate is accepted, and a message comes back" hello --insecure "$bare"
claim "a pinned certificate is accepted" hello --insecure --pin "$pin" "$bare"
claim "a certificate that is not pinned is refused" "is not a pinned one" --insecure --pin "$other" "$bare"
claim "a certificate of an unknown authority is refused" "$unknown" "$bare"
claim "gap B1: so is one of a trusted authority that has no list of revoked ones" "os error -2146762482" --ca ca.pem "$bare"

# The list is known: now the check goes to its end.
timeout 60 "$wine" crl.exe "$list" </dev/null >out 2>&1 || { cat out >&2; exit 1; }
serve listed
listed=wss://localhost:$port
claim "a certificate of a trusted authority is accepted" hello --ca ca.pem "$listed"
claim "one for another name is refused" "is not for the name example.org" --ca ca.pem --sni example.org "$listed"
claim "one of an unknown authority is still refused" "$unknown" "$listed"
serve revoked
claim "one that was revoked is refused" "certificate was revoked" --ca ca.pem "wss://localhost:$port"
serve expired
claim "one that has expired is refused" "has expired or is not valid yet" --ca ca.pem "wss://localhost:$port"

if [ -n "$rustls" ]; then
    program=$rustls
    claim "rustls: any certificate is accepted, and a message comes back" hello --insecure "$bare"
    claim "rustls: a pinned certificate is accepted" hello --insecure --pin "$pin" "$bare"
    claim "rustls: a certificate that is not pinned is refused" "is not a pinned one" --insecure --pin "$other" "$bare"
    claim "gap B3: rustls can't ask the system about a certificate" "os error -2147024809" --ca ca.pem "$listed"
fi
exit $failed
