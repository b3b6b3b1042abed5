#!/usr/bin/env bash
# keys.sh DIR   Makes one stack's keys and certificates in DIR/keys and its DIR/trusted_root.json, DIR/signing_*.json
# (nothing is started). COSIGN=path of cosign v3, PORT_BASE=first of the ports that up.sh uses.
set -euo pipefail
dir=$1 cosign=${COSIGN:-cosign} p=${PORT_BASE:-8400}
mkdir -p "$dir/keys"; cd "$dir/keys"

key() { openssl ecparam -name "$2" -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"; openssl pkey -in "$1.key" -pubout -out "$1.pub"; }
# cert NAME CURVE CN ISSUER EXTENSIONS...
cert() {
  local name=$1 curve=$2 cn=$3 issuer=$4; shift 4
  key "$name" "$curve"; printf '%s\n' "$@" subjectKeyIdentifier=hash authorityKeyIdentifier=keyid > "$name.ext"
  openssl req -new -key "$name.key" -subj "/O=sigstack/CN=$cn" -out "$name.csr"
  if [ "$issuer" = self ]; then set -- -signkey "$name.key"; else set -- -CA "$issuer.crt" -CAkey "$issuer.key" -CAcreateserial; fi
  openssl x509 -req -in "$name.csr" -days 3650 -sha384 -extfile "$name.ext" "$@" -out "$name.crt" 2>/dev/null
  rm "$name.ext" "$name.csr"
}
ca="keyUsage=critical,keyCertSign,cRLSign"
cert fulcio-root secp384r1 fulcio-root self "basicConstraints=critical,CA:TRUE,pathlen:1" "$ca"
cert fulcio-ca secp384r1 fulcio-intermediate fulcio-root "basicConstraints=critical,CA:TRUE,pathlen:0" "$ca" "extendedKeyUsage=codeSigning"
cat fulcio-ca.crt fulcio-root.crt > fulcio-chain.pem
cert tsa-root secp384r1 tsa-root self "basicConstraints=critical,CA:TRUE" "$ca"
cert tsa-ca secp384r1 tsa-intermediate tsa-root "basicConstraints=critical,CA:TRUE,pathlen:0" "$ca" "extendedKeyUsage=timeStamping"
cert tsa secp384r1 tsa tsa-ca "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" "extendedKeyUsage=critical,timeStamping"
cat tsa.crt tsa-ca.crt tsa-root.crt > tsa-chain.pem
key ctlog prime256v1
key rekor1 prime256v1
openssl genpkey -algorithm ed25519 -out rekor2.key
openssl pkey -in rekor2.key -pubout -out rekor2.pub
openssl genrsa -out oidc.key 2048 2>/dev/null
cd - >/dev/null

# The host in Rekor v2's URL must be the checkpoint's origin (the log's --hostname): verifiers take the note's name from it.
k=$dir/keys u=http://127.0.0.1 t=start-time=2026-01-01T00:00:00Z op=operator=sigstack
"$cosign" trusted-root create --out "$dir/trusted_root.json" \
  --fulcio="url=https://fulcio.local,certificate-chain=$k/fulcio-chain.pem,$t" \
  --ctfe="url=https://ctlog.local,public-key=$k/ctlog.pub,$t" \
  --tsa="url=https://tsa.local,certificate-chain=$k/tsa-chain.pem,$t" \
  --rekor="url=https://rekor1.local,public-key=$k/rekor1.pub,$t" \
  --rekor="url=https://rekor2.local,public-key=$k/rekor2.pub,$t,origin=rekor2.local"
sc() {
  local name=$1; shift
  "$cosign" signing-config create --out "$dir/signing_$name.json" --fulcio="url=$u:$((p+3)),api-version=1,$t,$op" \
    --oidc-provider="url=$u:$p,api-version=1,$t,$op" "$@"
}
tsa=(--tsa="url=$u:$((p+6))/api/v1/timestamp,api-version=1,$t,$op" --tsa-config=EXACT:1)
r1=(--rekor="url=$u:$((p+7)),api-version=1,$t,$op" --rekor-config=EXACT:1)
r2=(--rekor="url=$u:$((p+8)),api-version=2,$t,$op" --rekor-config=EXACT:1)
sc rekor1 "${r1[@]}"
sc rekor1_tsa "${r1[@]}" "${tsa[@]}"
sc rekor2 "${r2[@]}"
sc rekor2_tsa "${r2[@]}" "${tsa[@]}"
sc tsa "${tsa[@]}"
sc none
