package tdx

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/cocoon-network/cocoon/schemas"
)

// Layout of a version 4 quote with ECDSA-P256 and a PCK chain, the only form that is accepted.
const (
	headerSize    = 48
	bodySize      = 584
	signedSize    = headerSize + bodySize
	signatureAt   = signedSize + 4
	signatureSize = 64
	keySize       = 64
	qeReportSize  = 384
	// minSignatureData is signature, key, type and size of the QE data, QE report, its signature, empty authentication
	// data, type and size of the chain.
	minSignatureData = signatureSize + keySize + 6 + qeReportSize + signatureSize + 2 + 6

	version4      = 4
	ecdsaP256     = 2
	teeTDX        = 0x81
	certQEReport  = 6
	certPCKChain  = 5
	maxAuthData   = 1024
	rtmrCount     = 4
	reportDataLen = 64
)

// intelQE is the vendor id in the header of every quote made by Intel's quoting enclave.
const intelQE = "939a7233f79c4ca9940a0db3957f0607"

// quote is a quote taken apart. Its slices alias the raw bytes.
type quote struct {
	// signed is header and body, what the attestation key signs.
	signed []byte
	body   []byte
	// signature and key belong to the attestation key; r‖s and x‖y.
	signature, key []byte
	// qeReport is signed by the PCK with qeSignature and binds key and auth.
	qeReport, qeSignature, auth []byte
	// chain is the PEM chain of the PCK certificate.
	chain []byte
}

// parseQuote checks the shape of every field, so that nothing later can slice out of range, and refuses bytes after it.
func parseQuote(raw []byte) (*quote, error) {
	if len(raw) < signatureAt+minSignatureData || len(raw) > schemas.MaxQuote {
		return nil, refuse("quote", "has %d bytes, a TDX quote has between %d and %d", len(raw), signatureAt+minSignatureData, schemas.MaxQuote)
	}
	le := binary.LittleEndian
	if le.Uint16(raw) != version4 || le.Uint16(raw[2:]) != ecdsaP256 || le.Uint32(raw[4:]) != teeTDX {
		return nil, refuse("quote.header", "is version %d, key type %d, TEE %#x; only version 4, ECDSA-P256, TDX is accepted",
			le.Uint16(raw), le.Uint16(raw[2:]), le.Uint32(raw[4:]))
	}
	if hex.EncodeToString(raw[12:28]) != intelQE {
		return nil, refuse("quote.header", "is not by Intel's quoting enclave")
	}
	data := raw[signatureAt:]
	if uint64(le.Uint32(raw[signedSize:])) != uint64(len(data)) {
		return nil, refuse("quote", "signature data is said to have %d bytes and has %d", le.Uint32(raw[signedSize:]), len(data))
	}
	q := &quote{
		signed: raw[:signedSize], body: raw[headerSize:signedSize],
		signature: data[:signatureSize], key: data[signatureSize : signatureSize+keySize],
	}
	return q, q.parseCertification(data[signatureSize+keySize:])
}

// parseCertification reads the nested certification data: type 6 around the QE report, type 5 around the chain.
func (q *quote) parseCertification(data []byte) error {
	le := binary.LittleEndian
	inner := data[6:]
	if le.Uint16(data) != certQEReport || uint64(le.Uint32(data[2:])) != uint64(len(inner)) {
		return refuse("quote.certification", "is not a QE report of the size it says")
	}
	q.qeReport, q.qeSignature = inner[:qeReportSize], inner[qeReportSize:qeReportSize+signatureSize]
	rest := inner[qeReportSize+signatureSize:]
	size := int(le.Uint16(rest))
	if size > maxAuthData || 2+size+6 > len(rest) {
		return refuse("quote.certification", "has authentication data of %d bytes", size)
	}
	q.auth = rest[2 : 2+size]
	pck := rest[2+size:]
	q.chain = pck[6:]
	if le.Uint16(pck) != certPCKChain || uint64(le.Uint32(pck[2:])) != uint64(len(q.chain)) {
		return refuse("quote.certification", "is not a PCK certificate chain of the size it says")
	}
	return nil
}

// certification identifies everything that the PCK vouches for: attestation key, QE report, its signature, and the
// authentication data. All but the last have a fixed size.
func (q *quote) certification() schemas.Hash {
	h := sha256.New()
	for _, part := range [][]byte{q.key, q.qeReport, q.qeSignature, q.auth} {
		h.Write(part)
	}
	return schemas.Hash(h.Sum(nil))
}

// Trim cuts what some quote services leave after a quote, using the size the quote itself states. It returns raw
// unchanged when that size makes no sense: the verifier will say what is wrong.
func Trim(raw []byte) []byte {
	if len(raw) < signatureAt {
		return raw
	}
	if size := uint64(binary.LittleEndian.Uint32(raw[signedSize:])); size <= uint64(len(raw)-signatureAt) {
		return raw[:signatureAt+size]
	}
	return raw
}

// Registers are what a TD's quote says about it, before anyone has judged it.
type Registers struct {
	// MRTD is the firmware; RTMR are the four run-time registers.
	MRTD schemas.Measure
	RTMR [rtmrCount]schemas.Measure
	// MRConfigID, MROwner and MROwnerConfig are set by the host.
	MRConfigID, MROwner, MROwnerConfig schemas.Measure
	// Module is MRSEAM, the TDX module.
	Module schemas.Measure
	// Attributes and XFAM are the TD's; the low byte of Attributes is the debug group.
	Attributes, XFAM schemas.Bits64
	// Data is what the TD asked to be signed.
	Data [reportDataLen]byte
	// SVN holds the security versions: TDX module in 0 and 1, then microcode.
	SVN [16]byte
}

// Debug reports whether the host can read the TD's memory.
func (r *Registers) Debug() bool { return r.Attributes&0xff != 0 }

// registers reads the body.
func (q *quote) registers() Registers {
	at := func(i int) schemas.Measure { return schemas.Measure(q.body[i : i+48]) }
	r := Registers{
		SVN: [16]byte(q.body[:16]), Module: at(16),
		Attributes: schemas.Bits64(binary.LittleEndian.Uint64(q.body[120:])), XFAM: schemas.Bits64(binary.LittleEndian.Uint64(q.body[128:])),
		MRTD: at(136), MRConfigID: at(184), MROwner: at(232), MROwnerConfig: at(280),
		Data: [reportDataLen]byte(q.body[520:584]),
	}
	for i := range r.RTMR {
		r.RTMR[i] = at(328 + 48*i)
	}
	return r
}

// moduleSigner is MRSIGNERSEAM.
func (q *quote) moduleSigner() []byte { return q.body[64:112] }

// moduleAttributes is SEAMATTRIBUTES.
func (q *quote) moduleAttributes() []byte { return q.body[112:120] }

// ReadRegisters reads the registers of a quote without verifying anything: for display, and for measuring a machine
// that is known to be good.
func ReadRegisters(raw []byte) (Registers, error) {
	q, err := parseQuote(raw)
	if err != nil {
		return Registers{}, err
	}
	return q.registers(), nil
}
