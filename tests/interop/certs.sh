#!/usr/bin/env bash
# certs.sh DIR: makes, in DIR, a CA (ca.pem) and four certificates with their keys that it signed: good, for localhost
# and its addresses; expired, the same for a time that is over; wrong-name, for another host; client, for a client, also
# as PKCS#12 with the password "open sesame". good.both.pem is certificate and key in one file.
set -euo pipefail
mkdir -p "$1"
cd "$1"

cat >ca.conf <<'CONF'
[ca]
default_ca = ours
[ours]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = leaf
[any]
commonName = supplied
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[leaf]
basicConstraints = CA:FALSE
extendedKeyUsage = $ENV::PURPOSE
subjectAltName = $ENV::NAMES
[req]
distinguished_name = given
[given]
CONF
: >index.txt
echo 01 >serial

# request NAME ARGUMENT...: a new key, and a request for a certificate.
request() {
    local name=$1
    shift
    openssl req -config ca.conf -newkey rsa:2048 -nodes -sha256 -subj "/CN=tautline interop $name" -keyout "$name.key" "$@"
}

# leaf NAME DATE...
leaf() {
    local name=$1
    shift
    request "$name" -out "$name.csr"
    openssl ca -config ca.conf -batch -notext -cert ca.pem -keyfile ca.key -in "$name.csr" -out "$name.pem" "$@"
}

export NAMES=DNS:localhost,IP:127.0.0.1,IP:::1 PURPOSE=serverAuth
request ca -x509 -extensions root -days 3650 -out ca.pem
leaf good -days 397
leaf expired -startdate 20200101000000Z -enddate 20210101000000Z
NAMES=DNS:elsewhere.invalid
leaf wrong-name -days 397
NAMES=DNS:client.invalid PURPOSE=clientAuth
leaf client -days 397
cat good.pem good.key >good.both.pem
openssl pkcs12 -export -in client.pem -inkey client.key -passout "pass:open sesame" -out client.p12
