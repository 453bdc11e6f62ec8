package enclave

import (
	"crypto/ed25519"
	"crypto/hpke"

	"github.com/cocoon-network/cocoon/schemas"
)

// Steps of sealing, for tests that must make what no producer or worker makes.
var (
	SealFrames = sealFrames
	OpenFrames = openFrames
	Pad        = pad
	Unpad      = unpad
	PaddedSize = paddedSize
	PadChunk   = padChunk
	SealOnce   = sealOnce
	WrapKey    = wrapKey
	PayloadKey = payloadKey
	Expand     = expand
	SignJWS    = signJWS
	Accept     = acceptChannel
	GCM        = gcm
)

// Floors of padding and the label of the key commitment.
const (
	RequestFloor = requestFloor
	ResultFloor  = resultFloor
	LabelCommit  = labelCommit
)

// Encapsulate makes the secret of a submission.
func (t *TrustedKey) Encapsulate() (enc []byte, secret [32]byte, err error) {
	return encapsulate(t.public, t.bundle.Key.KeyBytes(), purposeJob)
}

// EncapsulateReply makes the secret of results for a tenant.
func (t *Tenant) EncapsulateReply() (enc []byte, secret [32]byte, err error) {
	return encapsulate(t.reply.PublicKey(), t.kid, purposeResult)
}

// ReplyKey is the public reply key.
func (t *Tenant) ReplyKey() []byte { return t.public }

// ReplySecret is the secret of one job.
func (t *Tenant) ReplySecret(job schemas.JobID) [32]byte { return t.replySecret(job) }

// SignSpend signs the jobs of an encapsulation.
func (t *Tenant) SignSpend(message []byte) [64]byte { return [64]byte(ed25519.Sign(t.sign, message)) }

// RunKey derives the key of a result or of chunks.
func RunKey(chunk bool, job schemas.JobID, envelope schemas.Hash, attempt uint32, worker schemas.WorkerID, index uint32, encapsulated, reply [32]byte) ([32]byte, error) {
	r := run{job, envelope, attempt, worker, index}
	label := labelResult
	if chunk {
		label = labelChunk
	}
	return r.key(label, encapsulated, reply)
}

// EncapsulateTo makes a secret for a public key in its binary form.
func EncapsulateTo(public []byte) (enc []byte, secret [32]byte, err error) {
	key, err := kem().NewPublicKey(public)
	if err != nil {
		return nil, secret, err
	}
	return encapsulate(key, kidOf(public), purposeJob)
}

// DecapsulateFrom opens what EncapsulateTo made.
func DecapsulateFrom(enc []byte, private hpke.PrivateKey) error {
	_, err := decapsulate(enc, private, kidOf(private.PublicKey().Bytes()), purposeJob)
	return err
}
