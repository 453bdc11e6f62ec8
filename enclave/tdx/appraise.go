package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-tdx-guest/pcs"

	"github.com/cocoon-network/cocoon/schemas"
)

// Level is Intel's judgement of one part of a platform.
type Level struct {
	// Status is the verdict.
	Status schemas.TCBStatus
	// Date is the date of the level: everything known up to then is fixed by it.
	Date time.Time
	// Since is, for a status other than UpToDate, when the next better level appeared; otherwise the zero time.
	Since time.Time
	// Advisories are Intel's, about this level.
	Advisories []string
}

// String is for people: "OutOfDate since 2024-03-13".
func (l Level) String() string {
	if l.Since.IsZero() {
		return string(l.Status)
	}
	return fmt.Sprintf("%s since %s", l.Status, l.Since.Format(time.DateOnly))
}

// standing is a machine whose chain and collateral have verified: all that is needed to judge its quotes.
type standing struct {
	chain *pckChain
	facts *facts
	// attestation is the newest key that the chain vouched for. A quoting enclave keeps its key for as long as it keeps its
	// version, so that nearly every quote of a machine is signed by it.
	attestation atomic.Pointer[attestationKey]
}

// attestationKey is a key that a quoting enclave made, with the hash of everything by which the PCK vouches for it.
type attestationKey struct {
	certification schemas.Hash
	key           *ecdsa.PublicKey
}

// signed checks the two signatures of a quote: the PCK's, which vouches for the attestation key and is looked at once, and
// that key's over the quote.
func (s *standing) signed(q *quote) error {
	certification := q.certification()
	known := s.attestation.Load()
	if known == nil || known.certification != certification {
		key, err := s.chain.vouched(q)
		if err != nil {
			return err
		}
		known = &attestationKey{certification, key}
		s.attestation.Store(known)
	}
	if !verifyP256(known.key, q.signed, q.signature) {
		return refuse("quote.signature", "the attestation key did not sign this quote")
	}
	return nil
}

// facts is a set of collateral that has verified. Machines of one processor family share it.
type facts struct {
	tcb pcs.TcbInfo
	qe  pcs.EnclaveIdentity
	// collateral identifies the documents; notBefore and notAfter are when all of them are valid.
	collateral          schemas.Hash
	notBefore, notAfter time.Time
}

// newFacts reads the documents that the library has verified.
func newFacts(snap *snapshot) (*facts, error) {
	f := &facts{collateral: snap.digest}
	if err := readSigned(snap.tcb.Body, "tcbInfo", &f.tcb); err != nil {
		return nil, err
	}
	if err := readSigned(snap.qe.Body, "enclaveIdentity", &f.qe); err != nil {
		return nil, err
	}
	f.notBefore = latest(f.tcb.IssueDate, f.qe.IssueDate)
	f.notAfter = earliest(f.tcb.NextUpdate, f.qe.NextUpdate)
	for _, d := range snap.crls {
		list, err := x509.ParseRevocationList(d.Body)
		if err != nil {
			return nil, because("collateral.crl", err)
		}
		f.notBefore = latest(f.notBefore, list.ThisUpdate)
		f.notAfter = earliest(f.notAfter, list.NextUpdate)
	}
	return f, nil
}

// end is when the first document or certificate behind the standing ends.
func (s *standing) end() time.Time {
	return earliest(s.facts.notAfter, s.chain.leaf.NotAfter, s.chain.intermediate.NotAfter, s.chain.root.NotAfter)
}

// valid reports whether everything behind the standing is in force.
func (s *standing) valid(now time.Time) bool {
	return !now.Before(s.facts.notBefore) && now.Before(s.end())
}

// readSigned decodes what is signed in one of Intel's documents. The document must have exactly the signed key and the
// signature: encoding/json would take "TCBINFO" for "tcbInfo" where the library verifies only the latter.
func readSigned(body []byte, name string, into any) error {
	if err := schemas.CheckJSON(body); err != nil {
		return refuse("collateral."+name, "%v", err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(body, &keys); err != nil {
		return because("collateral."+name, err)
	}
	if keys[name] == nil || keys["signature"] == nil || len(keys) != 2 {
		return refuse("collateral."+name, "must have the keys %s and signature and no other", name)
	}
	if err := json.Unmarshal(keys[name], into); err != nil {
		return because("collateral."+name, err)
	}
	return nil
}

// appraise judges a quote whose signatures have been checked.
func (s *standing) appraise(q *quote) (*Report, error) {
	r := &Report{
		Registers: q.registers(), Root: s.chain.rootHash, FMSPC: s.chain.extensions.FMSPC, PPID: s.chain.ppid,
		Evaluation: min(s.facts.tcb.TcbEvaluationDataNumber, s.facts.qe.TcbEvaluationDataNumber), NextUpdate: s.end(),
		Collateral: s.facts.collateral, chain: s.chain,
	}
	var err error
	if r.Platform, err = s.platform(r.SVN); err != nil {
		return nil, err
	}
	if r.TDXModule, err = s.module(q, r.SVN); err != nil {
		return nil, err
	}
	if r.QE, err = s.quotingEnclave(q); err != nil {
		return nil, err
	}
	return r, nil
}

// platform finds the first TCB level that the machine reaches. With a TDX 1.5 module the module's own version is
// judged by its identity, and the first two components are not compared.
func (s *standing) platform(svn [16]byte) (Level, error) {
	if s.facts.tcb.Fmspc != s.chain.extensions.FMSPC || s.facts.tcb.PceID != s.chain.extensions.PCEID {
		return Level{}, refuse("collateral.tcbInfo", "is about another processor family")
	}
	from := 0
	if svn[1] > 0 {
		from = 2
	}
	have := s.chain.extensions.TCB
	for i, l := range s.facts.tcb.TcbLevels {
		if reaches(have.CPUSvnComponents, l.Tcb.SgxTcbcomponents, 0) && have.PCESvn >= l.Tcb.Pcesvn && reaches(svn[:], l.Tcb.TdxTcbcomponents, from) {
			return level("tcb.platform", s.facts.tcb.TcbLevels, i)
		}
	}
	return Level{}, refuse("tcb.platform", "no TCB level of Intel's matches this machine")
}

// reaches reports whether every component from an index on has at least the version wanted.
func reaches(have []byte, want []pcs.TcbComponent, from int) bool {
	if len(have) != len(want) {
		return false
	}
	for i := from; i < len(have); i++ {
		if have[i] < want[i].Svn {
			return false
		}
	}
	return true
}

// module judges the TDX module. TDX 1.0 modules have no identity of their own: the platform's level covers them.
func (s *standing) module(q *quote, svn [16]byte) (Level, error) {
	if svn[1] == 0 {
		return Level{Status: schemas.UpToDate}, nil
	}
	id := fmt.Sprintf("TDX_%02x", svn[1])
	for _, m := range s.facts.tcb.TdxModuleIdentities {
		if !strings.EqualFold(m.ID, id) || !bytes.Equal(m.Mrsigner.Bytes, q.moduleSigner()) ||
			!matches(q.moduleAttributes(), m.AttributesMask.Bytes, m.Attributes.Bytes) {
			continue
		}
		for i, l := range m.TcbLevels {
			if uint32(svn[0]) >= l.Tcb.Isvsvn {
				return level("tcb.module", m.TcbLevels, i)
			}
		}
	}
	return Level{}, refuse("tcb.module", "no identity of Intel's matches TDX module %s, version %d", id, svn[0])
}

// quotingEnclave checks that the quoting enclave is Intel's and judges it.
func (s *standing) quotingEnclave(q *quote) (Level, error) {
	report, le := q.qeReport, binary.LittleEndian
	miscSelect, attributes, signer := report[16:20], report[48:64], report[128:160]
	productID, version := le.Uint16(report[256:]), le.Uint16(report[258:])
	switch {
	case !matches(miscSelect, s.facts.qe.MiscselectMask.Bytes, s.facts.qe.Miscselect.Bytes):
		return Level{}, refuse("quote.qe", "MISCSELECT %s is not that of Intel's quoting enclave", hexBytes(miscSelect))
	case !matches(attributes, s.facts.qe.AttributesMask.Bytes, s.facts.qe.Attributes.Bytes):
		return Level{}, refuse("quote.qe", "attributes %s are not those of Intel's quoting enclave", hexBytes(attributes))
	case !bytes.Equal(signer, s.facts.qe.Mrsigner.Bytes) || productID != s.facts.qe.IsvProdID:
		return Level{}, refuse("quote.qe", "is not Intel's quoting enclave")
	}
	for i, l := range s.facts.qe.TcbLevels {
		if l.Tcb.Isvsvn <= uint32(version) {
			return level("tcb.qe", s.facts.qe.TcbLevels, i)
		}
	}
	return Level{}, refuse("tcb.qe", "no TCB level of Intel's matches quoting enclave version %d", version)
}

// matches reports whether the masked bits of have are those wanted; all three must have one length.
func matches(have, mask, want []byte) bool {
	if len(have) != len(mask) || len(have) != len(want) {
		return false
	}
	for i := range have {
		if have[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}

// level turns the matching entry of a list, newest first, into a Level.
func level(field string, list []pcs.TcbLevel, i int) (Level, error) {
	date, err := time.Parse(time.RFC3339, list[i].TcbDate)
	if err != nil {
		return Level{}, because(field, err)
	}
	l := Level{Status: schemas.TCBStatus(list[i].TcbStatus), Date: date, Advisories: list[i].AdvisoryIDs}
	if l.Status != schemas.UpToDate {
		l.Since = date
		if i > 0 {
			if newer, err := time.Parse(time.RFC3339, list[i-1].TcbDate); err == nil {
				l.Since = newer
			}
		}
	}
	return l, nil
}
