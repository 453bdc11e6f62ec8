#!/bin/sh
# Builds what a guest is made of. The same sources give the same bytes, on any path and at any time.
#
#   build.sh binary FILE [worker|full]     the program: the small measured one (default), or the one with everything
#   build.sh rootfs FILE [worker|full]     a tar of the program and the files of mkosi.extra, for mkosi
#   build.sh bundle FILE CONFIG TRUST      the measured configuration: a tar of cocoon.yaml and trust.json
#   build.sh image DIR [simulated]         the whole image with mkosi (needs mkosi 25, root or user namespaces, network)
#
# binary and rootfs need Go (the version in go.mod) and a C++ compiler; pin both (deploy/docker/Dockerfile does) for a
# release. bundle needs tar only. Prints the SHA-256 of what was written.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
epoch=${SOURCE_DATE_EPOCH:-1793491200}
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

usage() {
	sed -n 's/^#   //p' "$0" >&2
	exit 2
}

# binary FILE KIND builds the program without anything of this machine in it: no paths, no version control, no build id.
binary() {
	tags=""
	case $2 in
	worker) tags="worker nvml" ;;
	full) ;;
	*) usage ;;
	esac
	out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
	(cd "$repo" && CGO_ENABLED=1 GOFLAGS="-trimpath -buildvcs=false" GOTOOLCHAIN=local \
		go build -tags "$tags" -ldflags "-s -w -buildid=" -o "$out" .)
}

# pack FILE DIR NAME... writes a tar that depends on names and contents only.
pack() {
	out=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
	dir=$2
	shift 2
	tar --format=ustar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
		-C "$dir" -cf "$out" "$@"
}

kind=${3:-worker}
case ${1:-} in
binary)
	[ $# -ge 2 ] || usage
	binary "$2" "$kind"
	;;
rootfs)
	[ $# -ge 2 ] || usage
	work=$(mktemp -d)
	mkdir -p "$work/usr/bin"
	cp -R "$here/mkosi.extra/usr" "$work/"
	binary "$work/usr/bin/cocoon" "$kind"
	pack "$2" "$work" usr
	;;
bundle)
	[ $# -eq 4 ] || usage
	work=$(mktemp -d)
	cp "$3" "$work/cocoon.yaml"
	cp "$4" "$work/trust.json"
	pack "$2" "$work" cocoon.yaml trust.json
	;;
image)
	[ $# -ge 2 ] || usage
	profile=${3:-}
	mkdir -p "$here/out" "$2"
	if [ "$profile" = simulated ]; then
		"$0" rootfs "$here/out/rootfs.tar" full
		mkosi --directory "$here" --output-dir "$2" --profile simulated --force build
	else
		"$0" rootfs "$here/out/rootfs.tar" worker
		mkosi --directory "$here" --output-dir "$2" --force build
	fi
	exit
	;;
*) usage ;;
esac
sha256sum "$2"
