#!/bin/sh
# Thousands of requests made from the agent's OpenAPI document, good and bad, against a running agent.
# Needs schemathesis (pip install schemathesis). Usage: tests/agent_schemathesis.sh PATH-OF-HAH-VAULT
set -eu
program=$1
folder=$(mktemp -d)
trap 'kill "$agent" 2>/dev/null || true; rm -rf "$folder"' EXIT
export HOME="$folder" XDG_CONFIG_HOME="$folder/config" XDG_DATA_HOME="$folder/data" XDG_STATE_HOME="$folder/state"
printf 'schemathesis-0123456789abcdef0123\n' > "$folder/token"
head -c 100000 /dev/urandom > "$folder/notes.db"
mkdir "$folder/restores"
port=${PORT:-8299}
cat > "$folder/config.hcl" <<HCL
repository { url = "$folder/repository" }
file "notes" {
  path = "$folder/notes.db"
  raw  = true
}
agent {
  listen         = "127.0.0.1:$port"
  token_file     = "$folder/token"
  restore_folder = "$folder/restores"
}
HCL
"$program" --config "$folder/config.hcl" init > "$folder/init.log" 2>&1
"$program" --config "$folder/config.hcl" agent > "$folder/agent.log" 2>&1 &
agent=$!
tries=0
until curl -sf "http://127.0.0.1:$port/readyz" > /dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { cat "$folder/agent.log"; exit 1; }
    sleep 0.1
done
# Slow enough for the agent's own limit of requests.
schemathesis run "http://127.0.0.1:$port/v1/openapi.json" --url "http://127.0.0.1:$port" \
    --header "Authorization: Bearer schemathesis-0123456789abcdef0123" \
    --rate-limit 40/s --max-examples "${EXAMPLES:-60}" --request-timeout 20 --suppress-health-check all \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,negative_data_rejection
kill -0 "$agent"
grep -q schemathesis-0123456789 "$folder/agent.log" && { echo "the token is in the log"; exit 1; }
echo "the agent lives, and its log holds no token"
