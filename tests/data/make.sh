#!/usr/bin/env bash
# make.sh [DAYS]: makes all keys and certificates of this folder anew, valid for DAYS days, or for 36500. README.md says
# what each is, and when they have to be made. It needs openssl: OpenSSL 1.1 or newer, or the LibreSSL of macOS. So it asks
# for dates by `openssl ca` and for extensions by a file, which each of them knows.
set -euo pipefail

days=${1-36500}
if (($# > 1)) || ! [[ $days =~ ^[1-9][0-9]{0,5}$ ]]; then
    echo "usage: $0 [DAYS]" >&2
    exit 2
fi

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
# What openssl says matters only if something fails.
exec 3>&2 2>"$work/log"
end() {
    local status=$?
    ((status == 0)) || cat "$work/log" >&3
    # With it go the keys of the authorities.
    rm -rf "$work"
}
trap end EXIT
cd "$work"

# An authority's key is identified as its own and as that of its issuer, in this order.
cat >ca.conf <<'CONF'
[ca]
default_ca = ours
[ours]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = given
string_mask = utf8only
[given]

[authority]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[server]
subjectAltName = @names
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[alone]
basicConstraints = critical, CA:TRUE
extendedKeyUsage = serverAuth
subjectAltName = @names
subjectKeyIdentifier = hash
[client]
basicConstraints = CA:FALSE
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[names]
DNS.1 = localhost
IP.1 = 127.0.0.1
IP.2 = ::1
CONF
: >index.txt

# rsa NAME: a key in PKCS#8, of the only kind that native-tls takes on Windows.
rsa() {
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1.key"
}

# certify NAME KEY SUBJECT EXTENSIONS OPTION...: the options say who signs it, and from when to when it is valid.
certify() {
    local name=$1 key=$2 subject=$3 extensions=$4
    shift 4
    openssl req -new -config ca.conf -sha256 -key "$key.key" -subj "/CN=$subject" -out request
    openssl rand -hex 16 >serial
    openssl ca -config ca.conf -batch -notext -extensions "$extensions" -in request -out "$name.pem" "$@"
}

# authority NAME SUBJECT
authority() {
    rsa "$1"
    certify "$1" "$1" "$2" authority -selfsign -keyfile "$1.key" -days "$days"
}

authority ca "tautline test CA"
rsa server
certify server server localhost server -cert ca.pem -keyfile ca.key -days "$days"

# Before 2050, a date has a year of two digits.
certify expired server localhost alone -selfsign -keyfile server.key -startdate 000101000000Z -enddate 010101000000Z
certify not_yet_valid server localhost alone -selfsign -keyfile server.key \
    -startdate 21900101000000Z -enddate 22900101000000Z
certify self_signed server localhost alone -selfsign -keyfile server.key -days "$days"

authority client_ca "tautline test clients"
rsa client
certify client client client client -cert client_ca.pem -keyfile client_ca.key -days "$days"
# What Windows and macOS open, whatever their age.
openssl pkcs12 -export -in client.pem -inkey client.key -passout pass:secret -out client.p12 \
    -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out client_ec.key
certify client_ec client_ec "client with an EC key" client -cert client_ca.pem -keyfile client_ca.key -days "$days"

# OpenSSL 3.2 and newer make version 1 on demand only; those before it, where there is no extension.
number=0x$(openssl rand -hex 16)
openssl req -new -config ca.conf -sha256 -key client.key -subj "/CN=client of version 1" -out request
if openssl req -help 2>&1 | grep -e -x509v1 >/dev/null; then
    openssl req -x509v1 -config ca.conf -in request -key client.key -sha256 -set_serial "$number" -days "$days" \
        -out client_version_1.pem
else
    openssl x509 -req -in request -signkey client.key -sha256 -set_serial "$number" -days "$days" \
        -out client_version_1.pem
fi

{
    openssl verify -CAfile ca.pem server.pem
    openssl verify -CAfile client_ca.pem client.pem client_ec.pem
    openssl x509 -in client_version_1.pem -noout -text | grep -F "Version: 1 "
} >&2

made=(ca.pem server.pem server.key expired.pem not_yet_valid.pem self_signed.pem)
made+=(client_ca.pem client.pem client.key client.p12 client_ec.pem client_ec.key client_version_1.pem)
# Everybody may read these keys: they are good for nothing.
chmod 644 "${made[@]}"
cp "${made[@]}" "$here"
