#!/bin/sh
# Starts a guest under QEMU.
#
#   launch.sh [--print] MODE --image DISK --bundle TAR --host FILE [--firmware OVMF] [--memory 64G] [--cpus 16]
#             [--gpu BDF]... [--config-id HEX] [--qgs-port 4050]
#
# MODE  real        a TDX guest: needs a TDX host (Linux 6.16, QEMU 10.1), firmware built for TDX, and a quote service
#       simulated   an ordinary guest from the image of profile simulated: everything it proves is SIMULATED
#       test        checks the inputs as the guest would and prints the command of mode real; runs nothing
#
# --gpu is a PCI address such as 0000:17:00.0, bound to vfio-pci and in confidential mode; repeat it for several.
# --config-id becomes MRCONFIGID (96 hex digits, default zero), which the policy compares. --print prints the command.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
print=no mode= image= bundle= host= firmware=/usr/share/ovmf/OVMF.inteltdx.fd memory=64G cpus=16 gpus= config_id= port=4050
qemu=${QEMU:-qemu-system-x86_64}

fail() {
	echo "launch.sh: $*" >&2
	exit 2
}

while [ $# -gt 0 ]; do
	case $1 in
	--print) print=yes && shift && continue ;;
	real | simulated | test) mode=$1 && shift && continue ;;
	--*) [ $# -ge 2 ] || fail "$1 needs a value" ;;
	*) fail "unknown word $1" ;;
	esac
	case $1 in
	--image) image=$2 ;;
	--bundle) bundle=$2 ;;
	--host) host=$2 ;;
	--firmware) firmware=$2 ;;
	--memory) memory=$2 ;;
	--cpus) cpus=$2 ;;
	--gpu) gpus="$gpus $2" ;;
	--config-id) config_id=$2 ;;
	--qgs-port) port=$2 ;;
	*) fail "unknown flag $1" ;;
	esac
	shift 2
done
[ -n "$mode" ] || fail "say real, simulated or test"
for file in "image $image" "bundle $bundle" "host $host"; do
	[ -f "${file#* }" ] || fail "--${file%% *}: no file '${file#* }'"
done
case $config_id in *[!0-9a-f]*) fail "--config-id must be lower-case hex" ;; esac
[ -z "$config_id" ] || [ ${#config_id} -eq 96 ] || fail "--config-id must have 96 digits"
for gpu in $gpus; do
	printf '%s\n' "$gpu" | grep -Eq '^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$' || fail "--gpu $gpu is no PCI address"
done
# A disk has whole sectors; a volume that has not would be padded, and its hash would be another.
for file in "$bundle" "$image"; do
	[ $(($(wc -c <"$file") % 512)) -eq 0 ] || fail "$file is not a whole number of 512-byte sectors"
done

# What the guest itself would refuse is refused here, before minutes of booting.
checked=$(mktemp -d)
trap 'rm -rf "$checked"' EXIT
BUNDLE=$bundle HOST_VOLUME=$host RUN=$checked sh "$here/mkosi.extra/usr/lib/cocoon/configure" || fail "the guest would refuse this configuration"

set -- "$qemu" -name guest -nodefaults -nographic -vga none -m "$memory" -smp "$cpus" \
	-drive "file=$image,if=none,id=root,format=raw,readonly=on" -device virtio-blk-pci,drive=root,serial=cocoon-root,bootindex=0 \
	-drive "file=$bundle,if=none,id=bundle,format=raw,readonly=on" -device virtio-blk-pci,drive=bundle,serial=cocoon-bundle \
	-drive "file=$host,if=none,id=host,format=raw,readonly=on" -device virtio-blk-pci,drive=host,serial=cocoon-host \
	-netdev user,id=net -device virtio-net-pci,netdev=net \
	-chardev stdio,id=console -device virtio-serial-pci -device virtconsole,chardev=console
case $mode in
real | test)
	id=
	# QEMU takes the register as base64 of its 48 bytes.
	[ -z "$config_id" ] || id=",\"mrconfigid\":\"$(printf '%s' "$config_id" | sed 's/../\\x&/g' | xargs -0 printf '%b' | base64 -w0)\""
	set -- "$@" -accel kvm -cpu host -bios "$firmware" \
		-machine q35,kernel-irqchip=split,confidential-guest-support=tdx,hpet=off \
		-object "{\"qom-type\":\"tdx-guest\",\"id\":\"tdx\"$id,\"quote-generation-socket\":{\"type\":\"vsock\",\"cid\":\"2\",\"port\":\"$port\"}}"
	;;
simulated)
	accel=tcg
	[ -w /dev/kvm ] && accel=kvm
	set -- "$@" -accel "$accel" -cpu max -bios "$firmware" -machine q35
	;;
esac
n=0
for gpu in $gpus; do
	[ $n -gt 0 ] || set -- "$@" -object iommufd,id=iommufd0 -fw_cfg name=opt/ovmf/X-PciMmio64Mb,string=1048576
	set -- "$@" -device "pcie-root-port,id=gpu$n,bus=pcie.0,chassis=$((n + 1))" -device "vfio-pci,host=$gpu,bus=gpu$n,iommufd=iommufd0"
	n=$((n + 1))
done

if [ $print = yes ] || [ "$mode" = test ]; then
	printf '%s\n' "$@"
	exit
fi
rm -rf "$checked"
trap - EXIT
[ -f "$firmware" ] || fail "--firmware: no file '$firmware'"
exec "$@"
