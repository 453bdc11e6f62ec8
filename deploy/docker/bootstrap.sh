#!/bin/sh
# Brings up what docker-compose.yml needs before its roles can run. Each step may be run again: it changes nothing then.
#
#   bootstrap trust     root key, SIMULATED hardware, streams, first policy and catalogue
#   bootstrap model     seal the demonstration model to the brokers and admit it
#   bootstrap tenant    open an account with 5 TON of credit
#
# Everything lies in $SHARED (default /var/lib/cocoon/shared). The root key lies there too: that is for trying things
# out. In production root keys are on other machines, and policies are signed by hand.
set -eu

shared=${SHARED:-/var/lib/cocoon/shared}
policies=${POLICIES:-/usr/share/cocoon/policy}
model=${MODEL:-/usr/share/cocoon/cocoon-tiny}

# publish NOUN signs NOUN.json as its next version and puts it into force.
publish() {
	cocoon "$1" sign "$shared/$1.json" --renew 90d --key "$shared/root.key" --out "$shared/$1.signed.json"
	cocoon "$1" publish "$shared/$1.signed.json" --trust "$shared/trust.json"
}

# next NOUN takes the draft of NOUN from what is in force, so that versions only grow.
next() {
	cocoon "$1" show -o json >"$shared/$1.json.part"
	mv "$shared/$1.json.part" "$shared/$1.json"
}

trust() {
	umask 077
	[ -f "$shared/root.key" ] || cocoon keys root "$shared/root.key"
	cocoon keys trust "$shared/root.key" --environment simulated >"$shared/trust.json.part"
	mv "$shared/trust.json.part" "$shared/trust.json"
	cocoon topology apply --replicas "${REPLICAS:-3}" --yes
	if ! cocoon policy show >/dev/null 2>&1; then
		cocoon policy init "$shared/policy.json" --simulated "$shared/hardware" --force
		cocoon policy add image "$shared/policy.json" "$policies/simulated-broker.json"
		cocoon policy add image "$shared/policy.json" "$policies/simulated-worker.json"
		publish policy
	fi
	if ! cocoon catalogue show >/dev/null 2>&1; then
		cocoon catalogue init "$shared/catalogue.json" --environment simulated --force
		publish catalogue
	fi
}

seal_model() {
	! cocoon catalogue show | grep -q cocoon-tiny || return 0
	sealed=$(cocoon models seal "$model" --name cocoon-tiny --put -o json \
		--trust "$shared/trust.json" --simulated "$shared/hardware")
	id=$(printf '%s\n' "$sealed" | sed -n 's/^ *"model": *"\([^"]*\)".*/\1/p')
	location=$(printf '%s\n' "$sealed" | sed -n 's/^ *"location": *"\([^"]*\)".*/\1/p')
	[ -n "$id" ] && [ -n "$location" ] || { echo "bootstrap: no model in $sealed" >&2; exit 1; }
	next policy
	cocoon policy add model "$shared/policy.json" "$id"
	publish policy
	next catalogue
	cocoon catalogue add model "$shared/catalogue.json" "$id" --context 512 --sealed --location "$location" \
		--endpoint /v1/chat/completions,/v1/completions --price-prompt 0.05 --price-completion 0.4
	publish catalogue
}

tenant() {
	umask 077
	cocoon account create local --identity "$shared/local.tenant.json" --stake 2.5
	id=$(cocoon keys show "$shared/local.tenant.json" -o json | sed -n 's/^ *"tenant": *"\([^"]*\)".*/\1/p')
	cocoon account fund "$id" 5 --ref bootstrap
}

case ${1:-} in
trust) trust ;;
model) seal_model ;;
tenant) tenant ;;
*) echo "usage: bootstrap trust|model|tenant" >&2 && exit 2 ;;
esac
