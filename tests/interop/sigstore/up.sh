#!/usr/bin/env bash
# up.sh DIR PORT: starts a private Sigstore on loopback, its keys, logs and pids under DIR. It ends with this script, which waits
# for its standard input to end.
# PORT +0 OIDC issuer, +1 Trillian, +2 CT log, +3 Fulcio, +4 its gRPC, +5 its metrics, +6 timestamp authority, +7 Rekor v1,
# +8 to +10 Rekor v2. The timestamp authority and Rekor v1 take port 2112 too, for metrics; no flag changes that.
# Needs on the PATH: memlog (beside this script), fulcio, ct_server, timestamp-server, rekor-server, rekor-server-posix, cosign-v3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd) port=$2
mkdir -p "$dir/log"
PORT_BASE=$port COSIGN=cosign-v3 "$here/keys.sh" "$dir"
keys=$dir/keys host=127.0.0.1
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT

# start NAME PORT COMMAND…: returns when something listens on the port.
start() {
  local name=$1 at=$2 pid
  shift 2
  (cd "$dir" && exec "$@") > "$dir/log/$name.log" 2>&1 < /dev/null &
  pid=$!
  for _ in $(seq 300); do
    kill -0 $pid 2> /dev/null || break
    if (: > "/dev/tcp/$host/$at") 2> /dev/null; then
      sleep 0.1
      kill -0 $pid && return
    fi
    sleep 0.1
  done
  echo "$name did not start:" >&2
  tail -5 "$dir/log/$name.log" >&2
  return 1
}

start oidc "$port" python3 "$here/oidc.py" "$port" "$keys/oidc.key"
start tsa $((port + 6)) timestamp-server serve --host $host --port $((port + 6)) --disable-ntp-monitoring \
  --timestamp-signer file --file-signer-key-path "$keys/tsa.key" --certificate-chain-path "$keys/tsa-chain.pem"
start memlog $((port + 1)) memlog -listen "$host:$((port + 1))"

cat > "$dir/ct.cfg" << CONFIG
config {
  log_id: $(grep -m1 -xE '[0-9]+' "$dir/log/memlog.log")
  prefix: "ct"
  roots_pem_file: "$keys/fulcio-root.crt"
  ext_key_usages: "CodeSigning"
  private_key { [type.googleapis.com/keyspb.PrivateKey] { der: "$(openssl pkey -in "$keys/ctlog.key" -outform DER | od -An -v -tx1 | tr -d '\n' | sed 's/ /\\x/g')" } }
}
CONFIG
start ctlog $((port + 2)) ct_server --http_endpoint "$host:$((port + 2))" --log_rpc_server "$host:$((port + 1))" \
  --log_config "$dir/ct.cfg" --logtostderr

cat > "$dir/fulcio.yaml" << CONFIG
oidc-issuers:
  http://$host:$port:
    issuer-url: http://$host:$port
    client-id: sigstore
    type: email
  http://$host:$port/gh:
    issuer-url: http://$host:$port/gh
    client-id: sigstore
    type: ci-provider
    ci-provider: github-workflow
ci-issuer-metadata:
  github-workflow:
    default-template-values: { url: "https://github.com", environment: "" }
    extension-templates:
      github-workflow-trigger: "event_name"
      github-workflow-sha: "sha"
      github-workflow-name: "workflow"
      github-workflow-repository: "repository"
      github-workflow-ref: "ref"
      source-repository-uri: "{{ .url }}/{{ .repository }}"
    subject-alternative-name-template: "{{ .url }}/{{ .job_workflow_ref }}"
CONFIG
start fulcio $((port + 3)) fulcio serve --host $host --port $((port + 3)) --grpc-host $host --grpc-port $((port + 4)) \
  --metrics-port $((port + 5)) --legacy-unix-domain-socket "@larder-$port" --ca fileca --fileca-cert "$keys/fulcio-chain.pem" \
  --fileca-key "$keys/fulcio-ca.key" --fileca-key-passwd unused --fileca-watch=false --config-path "$dir/fulcio.yaml" \
  --ct-log-url "http://$host:$((port + 2))/ct" --ct-log-public-key-path "$keys/ctlog.pub"
start rekor1 $((port + 7)) rekor-server serve --rekor_server.address $host --port $((port + 7)) \
  --rekor_server.hostname rekor1.local --rekor_server.signer "$keys/rekor1.key" --trillian_log_server.address $host \
  --trillian_log_server.port $((port + 1)) --enable_retrieve_api=false
mkdir -p "$dir/rekor2"
start rekor2 $((port + 8)) rekor-server-posix serve --http-address $host --http-port $((port + 8)) --grpc-address $host \
  --grpc-port $((port + 9)) --http-metrics-port $((port + 10)) --hostname rekor2.local --storage-dir "$dir/rekor2" \
  --signer-filepath "$keys/rekor2.key" --checkpoint-interval 1s --batch-max-age 100ms
echo ready
cat > /dev/null
