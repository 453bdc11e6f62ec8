package enclave

import (
	"container/list"
	"sync"
)

// secretCache remembers decapsulated secrets by their encapsulation, the least recently used dropped first.
// A decapsulation costs more than everything else done for a job; the jobs of one bulk submission share one.
type secretCache struct {
	mu    sync.Mutex // guards the fields below; never held during a decapsulation
	limit int
	byEnc map[string]*list.Element
	order *list.List // of *secretEntry, most recently used first
}

// secretEntry is one remembered secret.
type secretEntry struct {
	enc    string
	secret [secretSize]byte
}

// newSecretCache makes a cache of at most limit secrets.
func newSecretCache(limit int) *secretCache {
	return &secretCache{limit: limit, byEnc: make(map[string]*list.Element), order: list.New()}
}

// get returns the secret of an encapsulation, made by open when it is not remembered. Two callers that miss at the same
// time both pay; neither waits for the other.
func (c *secretCache) get(enc []byte, open func() ([secretSize]byte, error)) ([secretSize]byte, error) {
	c.mu.Lock()
	if e, ok := c.byEnc[string(enc)]; ok {
		c.order.MoveToFront(e)
		secret := e.Value.(*secretEntry).secret
		c.mu.Unlock()
		return secret, nil
	}
	c.mu.Unlock()
	secret, err := open()
	if err != nil {
		return secret, err
	}
	c.put(string(enc), secret)
	return secret, nil
}

// put remembers a secret and forgets the oldest beyond the limit.
func (c *secretCache) put(key string, secret [secretSize]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byEnc[key]; ok {
		return
	}
	c.byEnc[key] = c.order.PushFront(&secretEntry{key, secret})
	for c.order.Len() > c.limit {
		oldest := c.order.Back()
		entry := c.order.Remove(oldest).(*secretEntry)
		clear(entry.secret[:])
		delete(c.byEnc, entry.enc)
	}
}

// wipe forgets everything.
func (c *secretCache) wipe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.order.Front(); e != nil; e = e.Next() {
		clear(e.Value.(*secretEntry).secret[:])
	}
	clear(c.byEnc)
	c.order.Init()
}
