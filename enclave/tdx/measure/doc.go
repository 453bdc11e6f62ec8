// Package measure computes what a TDX guest's registers will hold, so that an image can be admitted before it has ever run.
//
//   - [MRTD] is the firmware: it replays what the TDX module hashes while a hypervisor loads a TDVF image (OVMF built for
//     TDX), page by page, from the metadata inside the image.
//   - [ReplayCCEL] gives RTMR0 to RTMR2 from the boot log that firmware and kernel of a running guest left in its ACPI
//     tables, event by event, for registers that are measured rather than computed: RTMR0 depends on the machine's shape,
//     RTMR1 and RTMR2 on how the kernel was started. Take the log from a guest that is known to be good.
//   - RTMR3 is schemas.EventLog: configuration, root keys, models.
//
// Both parsers take hostile input: every size is checked before memory is taken for it, and a malformed file is a
// KindInvalid error. What they compute is only as good as the file they are given; nothing here is a proof of anything.
package measure
