#!/bin/bash
# Makes the certificates of the tests anew, all of them, in this folder. They are valid from 2020 to 2120 (but the
# expired one), their keys lie beside them for everybody to read: they are good for nothing but tests.
#
#   ca.pem          signs server, expired and the intermediate that signs `other`
#   server          orbit.test, localhost, 127.0.0.1
#   other           other.test, *.wild.test; its chain is in its file
#   expired         orbit.test, until 2001
#   stranger        orbit.test and a client, signed by stranger-ca.pem, which nobody trusts
#   clients-ca.pem  signs client
#   encrypted.key   server's key, with a passphrase
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -f ./*.pem ./*.key

key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null || \
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

# sign NAME SUBJECT ISSUER EXTENSIONS [START END]; an issuer of its own name signs itself
sign() {
  local name=$1 subject=$2 issuer=$3 extensions=$4 start=${5:-20200101000000Z} end=${6:-21200101000000Z}
  key "$work/$name.key"
  openssl req -new -key "$work/$name.key" -subj "/CN=$subject" -out "$work/$name.csr"
  mkdir -p "$work/db-$issuer"
  touch "$work/db-$issuer/index"
  cat > "$work/ca.conf" <<CONF
[ca]
default_ca = it
[it]
database = $work/db-$issuer/index
new_certs_dir = $work/db-$issuer
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[extensions]
$extensions
CONF
  local as=(-cert "$work/$issuer.pem" -keyfile "$work/$issuer.key")
  [ "$issuer" = "$name" ] && as=(-selfsign -keyfile "$work/$name.key")
  openssl ca -batch -notext -config "$work/ca.conf" -extensions extensions "${as[@]}" -in "$work/$name.csr" \
    -startdate "$start" -enddate "$end" -out "$work/$name.pem" 2>/dev/null
}

authority=$'basicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash'
server=$'basicConstraints = CA:false\nextendedKeyUsage = serverAuth\nsubjectAltName = '
both=$'basicConstraints = CA:false\nextendedKeyUsage = serverAuth,clientAuth\nsubjectAltName = '
client=$'basicConstraints = CA:false\nextendedKeyUsage = clientAuth'

sign ca "Perigee test CA" ca "$authority"
sign middle "Perigee test intermediate" ca "$authority"
sign clients-ca "Perigee test clients" clients-ca "$authority"
sign stranger-ca "A stranger" stranger-ca "$authority"
sign server "orbit.test" ca "${server}DNS:orbit.test,DNS:localhost,IP:127.0.0.1"
sign other "other.test" middle "${server}DNS:other.test,DNS:*.wild.test"
sign expired "orbit.test" ca "${server}DNS:orbit.test" 20000101000000Z 20010101000000Z
sign stranger "stranger" stranger-ca "${both}DNS:orbit.test"
sign client "a client" clients-ca "$client"

for name in ca clients-ca stranger-ca server expired stranger client; do cp "$work/$name.pem" .; done
cat "$work/other.pem" "$work/middle.pem" > other.pem
for name in server other expired stranger client; do cp "$work/$name.key" .; done
openssl pkey -in server.key -aes256 -passout pass:secret -out encrypted.key
