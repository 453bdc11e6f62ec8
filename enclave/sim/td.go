package sim

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/google/go-tdx-guest/pcs"

	"github.com/cocoon-network/cocoon/schemas"
)

// rootCRLURL is where the development root says its revocation list lies.
const rootCRLURL = "https://pcs.simulated.invalid/SimulatedRootCA.der"

// The simulated processor.
var (
	fmspc     = [6]byte{0x51, 0x4d, 0x55, 0x4c, 0x00, 0x01}
	cpuSVN    = [16]byte{5, 5, 2, 2, 3, 1, 0, 3}
	tcbSVN    = [16]byte{7, 1, 5} // version 7 of TDX module 1, microcode 5
	qeVendor  = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}
	qeSigner  = sha256.Sum256([]byte("SIMULATED quoting enclave"))
	moduleSum = schemas.Measure(sha512.Sum384([]byte("SIMULATED TDX module")))
)

// The versions, attributes and sizes of the simulated platform.
const (
	pceSVN        = 13
	qeVersion     = 6
	qeProduct     = 2
	qeAttributes  = 0x15
	tdAttributes  = 1 << 28 // SEPT_VE_DISABLE, as Linux demands
	tdXFAM        = 0x061ae7
	debugBit      = 1
	quoteBodySize = 48 + 584
)

// tdxAuthority is the development root of the CPU side.
type tdxAuthority struct {
	root, intermediate, signer identity
	// attestation is the quoting enclave's key, one for the platform.
	attestation identity
}

// newTDXAuthority derives the hierarchy of a seed. The common names are those the verifying library insists on.
func (p *Platform) newTDXAuthority() (a tdxAuthority, err error) {
	ca := func(commonName string, pathLen int) *x509.Certificate {
		return &x509.Certificate{
			Subject: subject(OrganisationTDX, commonName), IsCA: true, MaxPathLen: pathLen, MaxPathLenZero: pathLen == 0, CRLDistributionPoints: []string{rootCRLURL},
		}
	}
	if a.root, err = p.issue(ca("Intel SGX Root CA", 1), elliptic.P256(), "tdx root", nil); err != nil {
		return a, err
	}
	if a.intermediate, err = p.issue(ca("Intel SGX PCK Platform CA", 0), elliptic.P256(), "tdx intermediate", &a.root); err != nil {
		return a, err
	}
	signer := &x509.Certificate{Subject: subject(OrganisationTDX, "Intel SGX TCB Signing"), CRLDistributionPoints: []string{rootCRLURL}}
	if a.signer, err = p.issue(signer, elliptic.P256(), "tdx signer", &a.root); err != nil {
		return a, err
	}
	a.attestation.key = p.key(elliptic.P256(), "tdx attestation")
	return a, nil
}

// TD is one simulated trust domain on one simulated machine. It implements the TD of package attest and is safe for
// concurrent use.
type TD struct {
	p   *Platform
	pck identity
	// certify makes the certification data once: a quoting enclave has its key certified when it makes the key, and
	// copies the result into every quote.
	certify func() ([]byte, error)

	mu        sync.Mutex
	registers Registers
}

// Registers are what the launch of a TD sets.
type Registers struct {
	MRTD, MRConfigID, MROwner, MROwnerConfig, Module schemas.Measure
	RTMR                                             [4]schemas.Measure
	Attributes, XFAM                                 schemas.Bits64
}

// ImageRegisters are those of a launch of the named image: firmware, configuration, kernel and command line.
func ImageRegisters(image string) Registers {
	sum := func(part string) schemas.Measure {
		return sha512.Sum384([]byte("SIMULATED " + part + " of " + image))
	}
	return Registers{
		MRTD: sum("firmware"), RTMR: [4]schemas.Measure{sum("configuration"), sum("kernel"), sum("command line")},
		Module: moduleSum, Attributes: tdAttributes, XFAM: tdXFAM,
	}
}

// Launch starts a TD with the given registers on the named machine. The same name is the same machine: same PPID.
func (p *Platform) Launch(machine string, r Registers) (*TD, error) {
	extension, err := p.sgxExtension(machine)
	if err != nil {
		return nil, err
	}
	pck, err := p.issue(&x509.Certificate{
		Subject: subject(OrganisationTDX, "Intel SGX PCK Certificate"), CRLDistributionPoints: []string{pcs.PckCrlURL("platform")},
		ExtraExtensions: []pkix.Extension{extension},
	}, elliptic.P256(), pckPurpose(machine), &p.tdx.intermediate)
	if err != nil {
		return nil, err
	}
	td := &TD{p: p, pck: pck, registers: r}
	td.certify = sync.OnceValues(td.certification)
	return td, nil
}

// pckPurpose names the key and certificate of a machine.
func pckPurpose(machine string) string { return "tdx machine " + machine }

// PPID is the id of the named machine.
func (p *Platform) PPID(machine string) schemas.PPID {
	return schemas.PPID(p.derive("ppid "+machine, 16))
}

// The parts of Intel's SGX extension: pairs of an object id and a value.
type (
	extensionInt struct {
		ID asn1.ObjectIdentifier
		V  int
	}
	extensionBytes struct {
		ID asn1.ObjectIdentifier
		V  []byte
	}
	extensionList struct {
		ID asn1.ObjectIdentifier
		V  []asn1.RawValue
	}
)

// sgxExtension encodes what a PCK certificate says about a machine.
func (p *Platform) sgxExtension(machine string) (pkix.Extension, error) {
	var failed error
	raw := func(v any) asn1.RawValue {
		der, err := asn1.Marshal(v)
		if err != nil {
			failed = err
		}
		return asn1.RawValue{FullBytes: der}
	}
	var components []asn1.RawValue
	for i, v := range cpuSVN {
		id := append(append(asn1.ObjectIdentifier{}, pcs.OidTCB...), i+1)
		components = append(components, raw(extensionInt{id, int(v)}))
	}
	components = append(components, raw(extensionInt{pcs.OidPCESvn, pceSVN}), raw(extensionBytes{pcs.OidCPUSvn, cpuSVN[:]}))
	ppid := p.PPID(machine)
	value := raw([]asn1.RawValue{
		raw(extensionBytes{pcs.OidPPID, ppid[:]}), raw(extensionList{pcs.OidTCB, components}),
		raw(extensionBytes{pcs.OidPCEID, []byte{0, 0}}), raw(extensionBytes{pcs.OidFMSPC, fmspc[:]}),
	})
	return pkix.Extension{Id: pcs.OidSgxExtension, Value: value.FullBytes}, failed
}

// Extend implements attest.TD: it is TDG.MR.RTMR.EXTEND.
func (t *TD) Extend(_ context.Context, index int, digest schemas.Measure) error {
	if index < 0 || index > 3 {
		return schemas.FieldError("rtmr", "must lie between 0 and 3")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.registers.RTMR[index] = t.registers.RTMR[index].Extend(digest)
	return nil
}

// Registers reads the registers as they are now.
func (t *TD) Registers() Registers {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.registers
}

// Quote implements attest.TD: it is the quoting enclave.
func (t *TD) Quote(_ context.Context, data [64]byte) ([]byte, error) {
	signed := t.body(data)
	if len(signed) != quoteBodySize {
		return nil, fmt.Errorf("sim: quote body of %d bytes", len(signed))
	}
	digest := sha256.Sum256(signed)
	signature, err := rawSignature(t.p.tdx.attestation.key, digest[:], 32)
	if err != nil {
		return nil, err
	}
	public, err := t.p.tdx.attestation.key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	certification, err := t.certify()
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	tail := append(append(signature, public[1:]...), 6, 0)
	tail = append(le.AppendUint32(tail, uint32(len(certification))), certification...)
	return append(le.AppendUint32(signed, uint32(len(tail))), tail...), nil
}

// body is header and TD report of a quote.
func (t *TD) body(data [64]byte) []byte {
	le, r := binary.LittleEndian, t.Registers()
	b := make([]byte, 0, quoteBodySize)
	b = le.AppendUint32(le.AppendUint16(le.AppendUint16(b, 4), 2), 0x81)
	b = append(append(b, 0, 0, 0, 0), qeVendor[:]...)
	b = append(b, make([]byte, 20)...)
	b = append(append(b, tcbSVN[:]...), r.Module[:]...)
	b = append(b, make([]byte, 48+8)...) // the module's signer and attributes are zero, as Intel's are
	b = le.AppendUint64(le.AppendUint64(b, uint64(r.Attributes)), uint64(r.XFAM))
	for _, m := range []schemas.Measure{r.MRTD, r.MRConfigID, r.MROwner, r.MROwnerConfig, r.RTMR[0], r.RTMR[1], r.RTMR[2], r.RTMR[3]} {
		b = append(b, m[:]...)
	}
	return append(b, data[:]...)
}

// certification is the quoting enclave's report, signed by the machine's PCK, and the PCK's chain.
func (t *TD) certification() ([]byte, error) {
	key, err := t.p.tdx.attestation.key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	auth := bytes.Repeat([]byte{0x51}, 32)
	report := make([]byte, 384)
	copy(report, cpuSVN[:])
	le.PutUint64(report[48:], qeAttributes)
	le.PutUint64(report[56:], 0xe7)
	copy(report[128:], qeSigner[:])
	le.PutUint16(report[256:], qeProduct)
	le.PutUint16(report[258:], qeVersion)
	binding := sha256.Sum256(append(bytes.Clone(key[1:]), auth...))
	copy(report[320:], binding[:])
	digest := sha256.Sum256(report)
	signature, err := rawSignature(t.pck.key, digest[:], 32)
	if err != nil {
		return nil, err
	}
	chain := append(chainPEM(t.pck.cert, t.p.tdx.intermediate.cert, t.p.tdx.root.cert), 0)
	b := append(report, signature...)
	b = append(le.AppendUint16(b, uint16(len(auth))), auth...)
	b = le.AppendUint32(le.AppendUint16(b, 5), uint32(len(chain)))
	return append(b, chain...), nil
}
