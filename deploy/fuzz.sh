#!/bin/sh
# Runs every fuzz target of the module for a while, one after another.
#
#   deploy/fuzz.sh [TIME] [PACKAGE...]
#
# TIME is how long each target runs as `go test -fuzztime` takes it: a duration (default 15s) or a number of executions
# such as 1000000x. PACKAGE is where to look (default ./...). Each target ends with how often it ran and how long. Stops
# at the first target that fails, with its output, and leaves the input that broke it in the target's testdata/fuzz, where
# it is a case of every later test. Finding no target at all is a failure: a search that finds nothing proves nothing.
set -eu

time=${1:-15s}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- ./...
case $time in
*[!0-9a-z.]* | '') echo "fuzz.sh: TIME must look like 15s or 1000000x, not '$time'" >&2 && exit 2 ;;
esac

# `go test -list` prints the targets of a package and after them "ok <package> <time>"; packages without tests print
# "? <package> [no test files]". Pairs come out as "<package> <target>".
list=$(go test -list '^Fuzz' "$@") || { printf '%s\n' "$list" >&2; exit 1; }
targets=$(printf '%s\n' "$list" | awk '
	/^Fuzz/ { names[n++] = $1; next }
	$1 == "ok" { for (i = 0; i < n; i++) print $2, names[i] }
	{ n = 0 }')
if [ -z "$targets" ]; then
	echo "fuzz.sh: no fuzz target in $*" >&2
	exit 1
fi

count=$(printf '%s\n' "$targets" | wc -l)
done=0
printf '%s\n' "$targets" | while read -r package target; do
	done=$((done + 1))
	log=$(mktemp)
	begin=$(date +%s)
	if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" >"$log" 2>&1; then
		cat "$log" >&2
		rm -f "$log"
		echo "fuzz.sh: $package $target failed" >&2
		exit 1
	fi
	# The last progress line reads "fuzz: elapsed: 15s, execs: 12345 (823/sec), new interesting: 1 (total: 30)".
	execs=$(sed -n 's/.*execs: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
	echo "[$done/$((count))] $package $target: ${execs:-0} executions in $(($(date +%s) - begin)) s"
	rm -f "$log"
done
echo "fuzz.sh: $((count)) targets, none failed"
