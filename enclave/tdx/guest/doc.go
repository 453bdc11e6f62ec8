// Package guest is the inside of a TDX guest: it makes quotes and extends run-time registers through the interfaces of the
// Linux kernel. It has never seen a real TD in our hands; it is tested against the kernel's documented behaviour.
//
// [Open] finds the interfaces and gives a [TD], which package attest boots as a machine:
//
//   - Quotes come from configfs-tsm (/sys/kernel/config/tsm/report, Linux 6.7 and later), or, where that is missing, from
//     the ioctl of /dev/tdx_guest. The kernel hands the request to the host's quote generation service; what comes back is
//     verified by whoever receives it, not here.
//   - Registers are extended by writing to /sys/class/misc/tdx_guest/measurements/rtmr3:sha384 (Linux 6.16 and later), or
//     through /sys/kernel/config/tsm/rtmrs on kernels that were patched for it. The register is read back: a write that did
//     not extend is an error, because a boot log that the register does not confirm is worthless.
//
// Everything is reached below a root folder through [Files], so that tests own the whole kernel side. A machine that is no
// TDX guest gets an error of KindUnsupported; a quote service that is busy or away gets KindUnavailable, which is worth a
// retry.
//
// Only RTMR3 is extended by Cocoon: RTMR0 to 2 belong to firmware and kernel.
package guest
