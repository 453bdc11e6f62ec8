package sim

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/cocoon-network/cocoon/enclave/nvidia"
	"github.com/cocoon-network/cocoon/schemas"
)

// The simulated GPU. It calls itself what it is.
const (
	GPUName         = "SIMULATED H100"
	GPUArchitecture = "GH100"
	GPUDriver       = "570.124.06"
	GPUVBIOS        = "96.00.5E.00.01"
	// gpuIndexes is the number of measurements in a report, as an H100 has it.
	gpuIndexes = 64
)

// gpuAuthority is the development root of the GPU side: root, architecture, provisioner.
type gpuAuthority struct{ root, architecture, provisioner identity }

// newGPUAuthority derives the hierarchy of a seed.
func (p *Platform) newGPUAuthority() (a gpuAuthority, err error) {
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: subject(OrganisationGPU, name), IsCA: true, NotAfter: gpuNotAfter, SignatureAlgorithm: x509.ECDSAWithSHA384}
	}
	if a.root, err = p.issue(ca("SIMULATED Device Identity CA"), elliptic.P384(), "gpu root", nil); err != nil {
		return a, err
	}
	if a.architecture, err = p.issue(ca("SIMULATED "+GPUArchitecture+" Identity"), elliptic.P384(), "gpu architecture", &a.root); err != nil {
		return a, err
	}
	a.provisioner, err = p.issue(ca("SIMULATED "+GPUArchitecture+" Provisioner ICA 1"), elliptic.P384(), "gpu provisioner", &a.architecture)
	return a, err
}

// GPU is one simulated GPU in confidential mode. It implements nvidia.Device.
type GPU struct {
	p         *Platform
	die, leaf identity
	// Firmware is the reported firmware id; the GPU's certificate has the one it was made with.
	Firmware [sha512.Size384]byte
	// Measurements are reported as they are; change them before the GPU attests to simulate other firmware.
	Measurements [gpuIndexes]schemas.Measure
	// Driver and VBIOS are reported as they are.
	Driver string
	VBIOS  [8]byte
}

// GPU makes the GPU with an index of a machine. The same name and index are the same GPU.
func (p *Platform) GPU(machine string, index int) (*GPU, error) {
	g := &GPU{p: p, Firmware: sha512.Sum384([]byte("SIMULATED firmware")), Driver: GPUDriver, VBIOS: [8]byte{0, 0x5e, 0, 0x96, 1}}
	for i := range g.Measurements {
		g.Measurements[i] = gpuMeasurement(i)
	}
	purpose := fmt.Sprintf("gpu %s %d", machine, index)
	var err error
	if g.die, err = p.issue(&x509.Certificate{
		Subject: subject(OrganisationGPU, "SIMULATED "+GPUArchitecture+" A01 GSP BROM"), IsCA: true, NotAfter: gpuNotAfter, SignatureAlgorithm: x509.ECDSAWithSHA384,
	}, elliptic.P384(), purpose+" die", &p.gpu.provisioner); err != nil {
		return nil, err
	}
	extension, err := firmwareExtension(g.Firmware)
	if err != nil {
		return nil, err
	}
	g.leaf, err = p.issue(&x509.Certificate{
		Subject: subject(OrganisationGPU, "SIMULATED "+GPUArchitecture+" A01 GSP FMC LF"), NotAfter: gpuNotAfter, SignatureAlgorithm: x509.ECDSAWithSHA384,
		ExtraExtensions: []pkix.Extension{extension},
	}, elliptic.P384(), purpose+" leaf", &g.die)
	return g, err
}

// gpuMeasurement is what every healthy simulated GPU measures at an index.
func gpuMeasurement(index int) schemas.Measure {
	return sha512.Sum384(fmt.Appendf(nil, "SIMULATED GPU measurement %d", index))
}

// firmwareExtension is the DICE composite device id with one SHA-384 firmware id.
func firmwareExtension(digest [sha512.Size384]byte) (pkix.Extension, error) {
	type firmware struct {
		Algorithm asn1.ObjectIdentifier
		Digest    []byte
	}
	value, err := asn1.Marshal(struct{ Firmware firmware }{firmware{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}, digest[:]}})
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}, Value: value}, err
}

// ID is the id under which verifiers and policies know the GPU.
func (g *GPU) ID() schemas.Hash { return schemas.HashOf(g.die.cert.RawSubjectPublicKeyInfo) }

// Name implements nvidia.Device.
func (g *GPU) Name() (string, error) { return GPUName, nil }

// Chain implements nvidia.Device.
func (g *GPU) Chain() ([]byte, error) {
	a := g.p.gpu
	return chainPEM(g.leaf.cert, g.die.cert, a.provisioner.cert, a.architecture.cert, a.root.cert), nil
}

// Report implements nvidia.Device: an SPDM 1.1 GET_MEASUREMENTS exchange.
func (g *GPU) Report(nonce [32]byte) ([]byte, error) {
	le := binary.LittleEndian
	b := append([]byte{0x11, 0xE0, 1, 0xFF}, nonce[:]...)
	b = append(b, 0, 0x11, 0x60, 0, 0, gpuIndexes)
	var record []byte
	for i, m := range g.Measurements {
		record = append(record, byte(i+1), 1)
		record = append(le.AppendUint16(record, uint16(3+len(m))), 1)
		record = append(le.AppendUint16(record, uint16(len(m))), m[:]...)
	}
	b = append(b, byte(len(record)), byte(len(record)>>8), byte(len(record)>>16))
	b = append(b, record...)
	var responder [32]byte
	rand.Read(responder[:])
	b = append(b, responder[:]...)
	opaque := g.opaque()
	b = append(le.AppendUint16(b, uint16(len(opaque))), opaque...)
	digest := sha512.Sum384(b)
	signature, err := rawSignature(g.leaf.key, digest[:], 48)
	return append(b, signature...), err
}

// opaque lists the fields beside the measurements.
func (g *GPU) opaque() (b []byte) {
	for _, f := range []struct {
		id    uint16
		value []byte
	}{
		{3, append([]byte(g.Driver), 0)}, {6, g.VBIOS[:]}, {15, []byte("882\x00")}, {17, []byte("1010\x00")}, {18, []byte("0200\x00")}, {20, g.Firmware[:]},
	} {
		b = binary.LittleEndian.AppendUint16(b, f.id)
		b = append(binary.LittleEndian.AppendUint16(b, uint16(len(f.value))), f.value...)
	}
	return b
}

// GPUs is the management library of a simulated machine. It implements nvidia.Library.
type GPUs struct {
	// Settings are those of confidential computing.
	Settings nvidia.State
	// All are the machine's GPUs.
	All []*GPU
}

// GPUs makes n GPUs of a machine, in confidential mode.
func (p *Platform) GPUs(machine string, n int) (*GPUs, error) {
	gpus := &GPUs{Settings: nvidia.State{Capable: true, Enabled: true}}
	for i := range n {
		g, err := p.GPU(machine, i)
		if err != nil {
			return nil, err
		}
		gpus.All = append(gpus.All, g)
	}
	return gpus, nil
}

// State implements nvidia.Library.
func (g *GPUs) State() (nvidia.State, error) { return g.Settings, nil }

// Devices implements nvidia.Library.
func (g *GPUs) Devices() ([]nvidia.Device, error) {
	devices := make([]nvidia.Device, len(g.All))
	for i, gpu := range g.All {
		devices[i] = gpu
	}
	return devices, nil
}

// Staple implements nvidia.Stapler: it is the vendor's revocation service, as the knobs have it.
func (p *Platform) Staple(_ context.Context, chain []byte) ([][]byte, error) {
	k, now := p.settings(), p.now().UTC().Truncate(time.Second)
	if k.NoOCSP {
		return nil, nil
	}
	_, rest := pem.Decode(chain)
	block, _ := pem.Decode(rest)
	if block == nil {
		return nil, schemas.FieldError("chain", "is not a GPU's chain")
	}
	die, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	var staples [][]byte
	for _, pair := range []struct {
		cert   *x509.Certificate
		issuer identity
	}{{die, p.gpu.provisioner}, {p.gpu.provisioner.cert, p.gpu.architecture}, {p.gpu.architecture.cert, p.gpu.root}} {
		answer := ocsp.Response{
			SerialNumber: pair.cert.SerialNumber, ThisUpdate: now.Add(k.Issued), NextUpdate: now.Add(k.Valid), IssuerHash: 0, Status: ocsp.Good,
		}
		if k.RevokeGPU && bytes.Equal(pair.cert.Raw, die.Raw) {
			answer.Status, answer.RevokedAt, answer.RevocationReason = ocsp.Revoked, now.Add(k.Issued), ocsp.KeyCompromise
		}
		by := pair.issuer
		if bytes.Equal(pair.cert.Raw, die.Raw) && k.Responder != IssuerAnswers {
			if by, err = p.responder(k.Responder); err != nil {
				return nil, err
			}
			answer.Certificate = by.cert
		}
		staple, err := ocsp.CreateResponse(pair.issuer.cert, by.cert, answer, by.key)
		if err != nil {
			return nil, err
		}
		staples = append(staples, staple)
	}
	return staples, nil
}

// responder makes the certificate of a signer of answers that the dies' issuer has issued.
func (p *Platform) responder(r Responder) (identity, error) {
	t := &x509.Certificate{Subject: subject(OrganisationGPU, "SIMULATED OCSP Responder"), SignatureAlgorithm: x509.ECDSAWithSHA384}
	if r == DelegateAnswers {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	} else {
		t.Subject = subject(OrganisationGPU, "SIMULATED "+GPUArchitecture+" A01 GSP BROM")
	}
	return p.issue(t, elliptic.P384(), fmt.Sprintf("gpu responder %d", r), &p.gpu.provisioner)
}
