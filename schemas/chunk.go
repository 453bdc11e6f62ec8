package schemas

// Limits of a live chunk.
const (
	// ChunkQuantum is the size a chunk's plaintext is padded to a multiple of.
	ChunkQuantum = 1 << 10
	// MaxChunkEvents bounds the events of one chunk and MaxChunk the encoded sealed chunk.
	MaxChunkEvents = 1024
	MaxChunk       = 256 << 10
	// ChunkEncEvery says how often a chunk repeats the encapsulation: in chunk 0 and every ChunkEncEvery-th one, so
	// that a listener who lost the first can still open the rest.
	ChunkEncEvery = 16
)

// Chunk is what one live message of a running job says: the events that arrived since the last one.
type Chunk struct {
	_ struct{} `cbor:",toarray"`
	// Events are the JSON objects of server-sent events, in order.
	Events [][]byte
}

// walk visits the fields of a chunk.
func (c *Chunk) walk(f *form) {
	f.fields(1)
	list(f, &c.Events, (*form).octets)
}

// Encode spells the chunk.
func (c *Chunk) Encode() []byte { return EncodeCBOR(c) }

// ParseChunk reads a chunk strictly.
func ParseChunk(b []byte) (*Chunk, error) {
	var c Chunk
	if err := DecodeCBOR(b, &c, MaxChunk); err != nil {
		return nil, rename(err, "chunk")
	}
	if len(c.Events) > MaxChunkEvents {
		return nil, &Error{Kind: KindTooLarge, Field: "chunk.events", Message: "has more than 1,024 entries"}
	}
	return &c, nil
}

// SealedChunk is a chunk as it travels on the live subject of a job. See spec/chunk.md.
type SealedChunk struct {
	_ struct{} `cbor:",toarray"`
	// Version is EnvelopeVersion.
	Version uint8
	// Attempt and Worker name the run; another run of the same job starts again at Seq 0.
	Attempt uint32
	Worker  WorkerID
	// Seq counts the chunks of a run from 0.
	Seq uint32
	// Last marks the last chunk of a run.
	Last bool
	// Enc is the encapsulation to the reply key, present in every ChunkEncEvery-th chunk and empty in the others; Index
	// is the run's number under it.
	Enc   []byte
	Index uint32
	// Payload is the padded chunk under one tag.
	Payload []byte
}

// walk visits the fields of a sealed chunk.
func (c *SealedChunk) walk(f *form) {
	f.fields(8)
	unsigned(f, &c.Version)
	unsigned(f, &c.Attempt)
	str(f, &c.Worker)
	unsigned(f, &c.Seq)
	f.flag(&c.Last)
	f.octets(&c.Enc)
	unsigned(f, &c.Index)
	f.octets(&c.Payload)
}

// Encode spells the sealed chunk.
func (c *SealedChunk) Encode() []byte { return EncodeCBOR(c) }

// ParseSealedChunk reads a sealed chunk strictly.
func ParseSealedChunk(b []byte) (*SealedChunk, error) {
	var c SealedChunk
	if err := DecodeCBOR(b, &c, MaxChunk); err != nil {
		return nil, rename(err, "chunk")
	}
	if _, err := ParseWorkerID(string(c.Worker)); err != nil {
		return nil, rename(err, "chunk.worker")
	}
	wantEnc := 0
	if c.Seq%ChunkEncEvery == 0 {
		wantEnc = EncSize
	}
	switch {
	case c.Version != EnvelopeVersion:
		return nil, &Error{Kind: KindUnsupported, Field: "chunk.version", Message: "is not 1"}
	case c.Attempt < 1 || c.Attempt > MaxAttempts:
		return nil, invalid("chunk.attempt", "must lie between 1 and 10")
	case len(c.Enc) != wantEnc:
		return nil, invalid("chunk.enc", "must be present in every 16th chunk and only there")
	case c.Index >= MaxPerEncapsulation:
		return nil, invalid("chunk.index", "must be below 1,000")
	case len(c.Payload) < ChunkQuantum+TagSize || (len(c.Payload)-TagSize)%ChunkQuantum != 0:
		return nil, invalid("chunk.payload", "must be a multiple of 1,024 bytes and a tag")
	}
	return &c, nil
}
