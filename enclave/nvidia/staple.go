package nvidia

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha512" // SHA-384 names the certificates in a request
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/cocoon-network/cocoon/schemas"
)

// ResponderURL is NVIDIA's revocation service.
const ResponderURL = "https://ocsp.ndis.nvidia.com/"

// Responder is a Stapler that asks the vendor's service and keeps each answer until half of its life is over.
type Responder struct {
	// URL is the service. Default ResponderURL.
	URL string
	// Client makes the requests. Default http.DefaultClient.
	Client *http.Client
	// Now is the clock. Default time.Now.
	Now func() time.Time

	mu sync.Mutex
	// answers is keyed by the hash of the certificate; guarded by mu.
	answers map[schemas.Hash]kept
}

// kept is an answer and when to ask again.
type kept struct {
	answer []byte
	until  time.Time
}

// maxAnswers bounds the answers that a Responder keeps: three for each GPU.
const maxAnswers = 4 * schemas.MaxGPUs

// Staple implements [Stapler].
func (r *Responder) Staple(ctx context.Context, pem []byte) ([][]byte, error) {
	c, err := parseChain(pem)
	if err != nil {
		return nil, err
	}
	staples := make([][]byte, 0, lastStapled-firstStapled+1)
	for i := firstStapled; i <= lastStapled; i++ {
		answer, err := r.ask(ctx, c, i)
		if err != nil {
			return nil, err
		}
		staples = append(staples, answer)
	}
	return staples, nil
}

// ask gets the answer about one certificate of a chain.
func (r *Responder) ask(ctx context.Context, c *chain, i int) ([]byte, error) {
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	key := schemas.HashOf(c.certs[i].Raw)
	r.mu.Lock()
	known, ok := r.answers[key]
	r.mu.Unlock()
	if ok && now().Before(known.until) {
		return known.answer, nil
	}
	request, err := ocsp.CreateRequest(c.certs[i], c.certs[i+1], &ocsp.RequestOptions{Hash: crypto.SHA384})
	if err != nil {
		return nil, because("ocsp", err)
	}
	answer, err := r.post(ctx, request)
	if err != nil {
		return nil, unavailable("ocsp", err)
	}
	parsed, err := ocsp.ParseResponseForCert(answer, c.certs[i], c.certs[i+1])
	if err != nil {
		return nil, unavailable("ocsp", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answers == nil || len(r.answers) >= maxAnswers {
		r.answers = map[schemas.Hash]kept{}
	}
	r.answers[key] = kept{answer, parsed.ThisUpdate.Add(parsed.NextUpdate.Sub(parsed.ThisUpdate) / 2)}
	return answer, nil
}

// post makes one request, bounded in time and size.
func (r *Responder) post(ctx context.Context, body []byte) ([]byte, error) {
	const timeout = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	url, client := r.URL, r.Client
	if url == "" {
		url = ResponderURL
	}
	if client == nil {
		client = http.DefaultClient
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the revocation service answers %s", response.Status)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, schemas.MaxOCSP+1))
	if err == nil && len(answer) > schemas.MaxOCSP {
		err = fmt.Errorf("the revocation service answers more than %d bytes", schemas.MaxOCSP)
	}
	return answer, err
}
