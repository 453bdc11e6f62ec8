package streams

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/cocoon-network/cocoon/schemas"
)

// partSize is the size of every part of an object but the last.
const partSize = schemas.MaxInlineBody

// partMeta is the last token of the message that describes an object.
const partMeta = "meta"

// maxObject bounds an object in bytes.
const maxObject = 2 << 40

// maxObjectName bounds an object's name; "sha256-" and 64 digits fit.
const maxObjectName = 80

// readAhead is the number of parts asked for before they are read.
const readAhead = 8

// Object describes a stored object.
type Object struct {
	Name string       `json:"name"`
	Size int64        `json:"size"`
	Hash schemas.Hash `json:"hash"`
}

// parts is the number of parts of an object.
func (o Object) parts() int64 { return (o.Size + partSize - 1) / partSize }

// Store keeps large objects as numbered parts in a stream, read back by direct gets: without consumers, so that tenants
// and workers need no right to create any. The hash of the whole is checked on the way out.
type Store struct {
	bus *Bus
	// stream holds the parts, under <prefix>.<object>.<part>.
	stream, prefix string
	// once tells that nothing stored is ever replaced.
	once bool
}

// prefixWeights is the first token of the subjects of weights.
const prefixWeights = "weight"

// Store opens an object store of the topology.
func (b *Bus) Store(name StoreName) *Store {
	return &Store{bus: b, stream: string(name), prefix: prefixWeights}
}

// bodies is the store of a tenant's large bodies. Its objects are named by their hash and never replaced.
func (b *Bus) bodies(tenant schemas.TenantID) *Store {
	return &Store{bus: b, stream: streamBodies, prefix: "body." + string(tenant), once: true}
}

// subject is where a part lies.
func (s *Store) subject(object, part string) string {
	return s.prefix + "." + object + "." + part
}

// checkObjectName refuses names that are not one subject token.
func checkObjectName(name string) error {
	bad := strings.IndexFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-'
	})
	if name == "" || len(name) > maxObjectName || bad >= 0 {
		return schemas.FieldError("object", "must be 1 to 80 characters of a-z, 0-9, _ and -")
	}
	return nil
}

// Put stores an object under a name (one subject token) and returns its size and hash. The object is there when Put has
// returned; readers of an older one under the same name may fail with KindCorrupt meanwhile.
//
// Commit point: the last message, which describes the object. A crash before it leaves parts without a description,
// overwritten by the next Put of the name.
func (s *Store) Put(ctx context.Context, name string, r io.Reader) (Object, error) {
	if err := checkObjectName(name); err != nil {
		return Object{}, err
	}
	o := Object{Name: name}
	sum := sha256.New()
	for part := 0; ; part++ {
		buffer := make([]byte, partSize)
		n, err := io.ReadFull(r, buffer)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return Object{}, err
		}
		if n > 0 {
			if o.Size += int64(n); o.Size > maxObject {
				return Object{}, schemas.Errorf(schemas.KindTooLarge, "object is larger than 2 TiB")
			}
			sum.Write(buffer[:n])
			if err := s.put(ctx, name, strconv.Itoa(part), buffer[:n]); err != nil {
				return Object{}, err
			}
		}
		if err != nil {
			break
		}
	}
	sum.Sum(o.Hash[:0])
	meta, err := json.Marshal(o)
	if err != nil {
		return Object{}, schemas.Errorf(schemas.KindInternal, "object: %w", err)
	}
	return o, s.put(ctx, name, partMeta, meta)
}

// put stores one part. Where nothing may be replaced, a part that is there already must be the same.
func (s *Store) put(ctx context.Context, name, part string, data []byte) error {
	subject := s.subject(name, part)
	_, err := s.bus.publish(ctx, OpObject, &nats.Msg{Subject: subject, Data: data})
	if !s.once || !errors.Is(err, schemas.KindBusy) {
		return err
	}
	m, errGet := s.bus.directGet(ctx, s.stream, subject)
	switch {
	case errors.Is(errGet, schemas.KindNotFound):
		return err // the stream itself is full
	case errGet != nil:
		return errGet
	case !bytes.Equal(m.data, data):
		return schemas.Errorf(schemas.KindConflict, "object %s: part %s is there with other bytes", name, part)
	}
	return nil
}

// Stat describes an object, or returns KindNotFound.
func (s *Store) Stat(ctx context.Context, name string) (Object, error) {
	if err := checkObjectName(name); err != nil {
		return Object{}, err
	}
	m, err := s.bus.directGet(ctx, s.stream, s.subject(name, partMeta))
	if err != nil {
		return Object{}, err
	}
	return parseObject(name, m.data)
}

// parseObject reads the description of an object.
func parseObject(name string, text []byte) (Object, error) {
	var o Object
	const limit = 4 << 10
	if err := schemas.DecodeJSON(text, &o, limit); err != nil || o.Name != name || o.Size < 0 || o.Size > maxObject {
		return Object{}, schemas.Errorf(schemas.KindCorrupt, "object %s: its description cannot be read: %w", name, err)
	}
	return o, nil
}

// Open reads an object, or returns KindNotFound. The last Read returns KindCorrupt instead of io.EOF when the bytes do not
// match the hash; use nothing before that.
func (s *Store) Open(ctx context.Context, name string) (io.ReadCloser, Object, error) {
	o, err := s.Stat(ctx, name)
	if err != nil {
		return nil, Object{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &objectReader{ctx: ctx, cancel: cancel, object: o, sum: sha256.New(), parts: make(chan chan part, readAhead)}
	go r.fetch(s)
	return r, o, nil
}

// part is one fetched part.
type part struct {
	data []byte
	err  error
}

// objectReader joins the parts. fetch runs ahead of Read by readAhead parts at most and ends with cancel.
type objectReader struct {
	ctx    context.Context
	cancel context.CancelFunc
	object Object
	sum    hash.Hash
	parts  chan chan part
	rest   []byte
	read   int64
	err    error
}

// fetch asks for all parts in order, several at a time.
func (r *objectReader) fetch(s *Store) {
	defer close(r.parts)
	for n := range r.object.parts() {
		c := make(chan part, 1)
		select {
		case r.parts <- c:
		case <-r.ctx.Done():
			return
		}
		go func() {
			m, err := s.bus.directGet(r.ctx, s.stream, s.subject(r.object.Name, strconv.FormatInt(n, 10)))
			c <- part{m.data, err}
		}()
	}
}

// Read implements io.Reader.
func (r *objectReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 && r.err == nil {
		r.err = r.next()
	}
	if len(r.rest) == 0 {
		return 0, r.err
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next takes the next part, or checks the whole at its end.
func (r *objectReader) next() error {
	c, ok := <-r.parts
	if !ok {
		switch {
		case r.ctx.Err() != nil:
			return classify(r.ctx.Err())
		case r.read != r.object.Size || schemas.Hash(r.sum.Sum(nil)) != r.object.Hash:
			return schemas.Errorf(schemas.KindCorrupt, "object %s: its bytes do not match its hash", r.object.Name)
		}
		return io.EOF
	}
	part := <-c
	if part.err != nil {
		return part.err
	}
	r.read += int64(len(part.data))
	r.sum.Write(part.data)
	r.rest = part.data
	return nil
}

// Close implements io.Closer.
func (r *objectReader) Close() error {
	r.cancel()
	return nil
}

// readAll returns a whole object of at most limit bytes, after its hash was checked against want.
func (s *Store) readAll(ctx context.Context, want schemas.Hash, size, limit int64) ([]byte, error) {
	if size < 0 || size > limit {
		return nil, schemas.Errorf(schemas.KindTooLarge, "body is larger than %d bytes", limit)
	}
	r, o, err := s.Open(ctx, want.String())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if o.Hash != want || o.Size != size {
		return nil, schemas.Errorf(schemas.KindCorrupt, "object %s is not what the message refers to", want)
	}
	body := make([]byte, 0, size)
	for {
		if len(body) == cap(body) {
			body = slices.Grow(body, 1) // the end of the object shows only on one more read
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// List describes all objects, sorted by name. Only users who may read the stream by position can do it.
func (s *Store) List(ctx context.Context) ([]Object, error) {
	var list []Object
	err := s.bus.scan(ctx, s.stream, s.subject("*", partMeta), 1, func(m stored) (bool, error) {
		name := strings.TrimSuffix(strings.TrimPrefix(m.subject, s.prefix+"."), "."+partMeta)
		o, err := parseObject(name, m.data)
		list = append(list, o)
		return true, err
	})
	slices.SortFunc(list, func(a, b Object) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// Delete removes an object: first its description, then its parts. Removing one that is not there is no error.
func (s *Store) Delete(ctx context.Context, name string) error {
	if err := checkObjectName(name); err != nil {
		return err
	}
	for _, last := range []string{partMeta, "*"} {
		if err := s.bus.purge(ctx, s.stream, s.subject(name, last)); err != nil {
			return err
		}
	}
	return nil
}

// purge removes all messages whose subjects match. Repeating it is harmless.
func (b *Bus) purge(ctx context.Context, stream, filter string) error {
	body, err := json.Marshal(map[string]string{"filter": filter})
	if err != nil {
		return schemas.Errorf(schemas.KindInternal, "purge: %w", err)
	}
	subject := b.api("STREAM.PURGE." + stream)
	return b.retry(ctx, func(ctx context.Context) error {
		return b.write(ctx, OpDelete, subject, func() error { return b.apiRequest(ctx, subject, body, nil) })
	})
}
