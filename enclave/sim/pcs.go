package sim

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/google/go-tdx-guest/pcs"

	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// Fetch implements tdx.Source: it is Intel's collateral service for the simulated processor, as the knobs have it.
func (p *Platform) Fetch(_ context.Context, address string) (tdx.Document, error) {
	k, now := p.settings(), p.now().UTC().Truncate(time.Second)
	var d tdx.Document
	var err error
	switch address {
	case pcs.TcbInfoURL(hex.EncodeToString(fmspc[:])):
		d, err = p.signed("tcbInfo", tcbInfo(k, now))
	case pcs.QeIdentityURL():
		d, err = p.signed("enclaveIdentity", qeIdentity(k, now))
	case pcs.PckCrlURL("platform"):
		d.Issuer = url.QueryEscape(string(chainPEM(p.tdx.intermediate.cert, p.tdx.root.cert)))
		d.Body, err = p.pckCRL(k, now)
	case rootCRLURL:
		d.Body, err = p.rootCRL(k, now)
	default:
		return d, &schemas.Error{Kind: schemas.KindNotFound, Field: "collateral", Message: "SIMULATED collateral service knows no " + address}
	}
	d.Fetched = now
	return d, err
}

// Documents is all collateral at once, for stores and offline files.
func (p *Platform) Documents(ctx context.Context) (tdx.Bundle, error) {
	bundle := tdx.Bundle{}
	for _, address := range []string{pcs.TcbInfoURL(hex.EncodeToString(fmspc[:])), pcs.QeIdentityURL(), pcs.PckCrlURL("platform"), rootCRLURL} {
		d, err := p.Fetch(ctx, address)
		if err != nil {
			return nil, err
		}
		bundle[tdx.Name(address)] = d
	}
	return bundle, nil
}

// object is a JSON object in Intel's documents.
type object map[string]any

// signed wraps a document in Intel's form: the signature covers the exact bytes of the inner object.
func (p *Platform) signed(name string, inner object) (tdx.Document, error) {
	body, err := json.Marshal(inner)
	if err != nil {
		return tdx.Document{}, err
	}
	digest := sha256.Sum256(body)
	signature, err := rawSignature(p.tdx.signer.key, digest[:], 32)
	return tdx.Document{
		Issuer: url.QueryEscape(string(chainPEM(p.tdx.signer.cert, p.tdx.root.cert))),
		Body:   fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, name, body, signature),
	}, err
}

// head is what both documents begin with.
func head(k Knobs, now time.Time, id string, version int) object {
	return object{
		"id": id, "version": version, "issueDate": now.Add(k.Issued).Format(time.RFC3339), "nextUpdate": now.Add(k.Valid).Format(time.RFC3339),
		"tcbEvaluationDataNumber": k.Evaluation,
	}
}

// levels lists a part's level with its status; any status but UpToDate comes with a newer level that the simulated
// machine does not reach.
func levels(k Knobs, now time.Time, status schemas.TCBStatus, have, newer object, advisories []string) []object {
	date := now.Add(-k.TCBAge)
	current := object{"tcb": have, "tcbDate": date.Format(time.RFC3339), "tcbStatus": status}
	if len(advisories) > 0 {
		current["advisoryIDs"] = advisories
	}
	if status == schemas.UpToDate {
		return []object{current}
	}
	return []object{{"tcb": newer, "tcbDate": date.Add(k.TCBAge / 2).Format(time.RFC3339), "tcbStatus": schemas.UpToDate}, current}
}

// tcbInfo is Intel's judgement of the simulated processor and its TDX module.
func tcbInfo(k Knobs, now time.Time) object {
	zeros, none, all := hex.EncodeToString(make([]byte, 48)), "0000000000000000", "FFFFFFFFFFFFFFFF"
	components := func(b [16]byte) (list []object) {
		for _, v := range b {
			list = append(list, object{"svn": v})
		}
		return list
	}
	tcb := func(more int) object {
		return object{"sgxtcbcomponents": components(cpuSVN), "pcesvn": pceSVN + more, "tdxtcbcomponents": components(tcbSVN)}
	}
	info := head(k, now, "TDX", 3)
	info["fmspc"], info["pceId"], info["tcbType"] = hex.EncodeToString(fmspc[:]), "0000", 0
	info["tdxModule"] = object{"mrsigner": zeros, "attributes": none, "attributesMask": all}
	info["tdxModuleIdentities"] = []object{{
		"id": "TDX_01", "mrsigner": zeros, "attributes": none, "attributesMask": all,
		"tcbLevels": levels(k, now, k.Module, object{"isvsvn": tcbSVN[0]}, object{"isvsvn": tcbSVN[0] + 1}, nil),
	}}
	info["tcbLevels"] = levels(k, now, k.Platform, tcb(0), tcb(1), k.Advisories)
	return info
}

// qeIdentity is Intel's description of the simulated quoting enclave.
func qeIdentity(k Knobs, now time.Time) object {
	id := head(k, now, "TD_QE", 2)
	id["miscselect"], id["miscselectMask"] = "00000000", "FFFFFFFF"
	id["attributes"], id["attributesMask"] = "11000000000000000000000000000000", "FBFFFFFFFFFFFFFF0000000000000000"
	id["mrsigner"], id["isvprodid"] = hex.EncodeToString(qeSigner[:]), qeProduct
	id["tcbLevels"] = levels(k, now, k.QE, object{"isvsvn": qeVersion}, object{"isvsvn": qeVersion + 1}, nil)
	return id
}

// pckCRL lists the revoked machines.
func (p *Platform) pckCRL(k Knobs, now time.Time) ([]byte, error) {
	var revoked []*big.Int
	for _, machine := range k.RevokedMachines {
		revoked = append(revoked, p.serial(pckPurpose(machine)))
	}
	return crl(p.tdx.intermediate, k, now, revoked)
}

// rootCRL lists what the root has revoked.
func (p *Platform) rootCRL(k Knobs, now time.Time) ([]byte, error) {
	var revoked []*big.Int
	if k.RevokeIntermediate {
		revoked = append(revoked, p.tdx.intermediate.cert.SerialNumber)
	}
	if k.RevokeSigner {
		revoked = append(revoked, p.tdx.signer.cert.SerialNumber)
	}
	return crl(p.tdx.root, k, now, revoked)
}

// crl makes a revocation list.
func crl(by identity, k Knobs, now time.Time, revoked []*big.Int) ([]byte, error) {
	t := &x509.RevocationList{Number: big.NewInt(now.Unix()), ThisUpdate: now.Add(k.Issued), NextUpdate: now.Add(k.Valid)}
	for _, serial := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now.Add(k.Issued)})
	}
	return x509.CreateRevocationList(rand.Reader, t, by.cert, by.key)
}
