package tdx

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Service is Intel's collateral service, or a cache that answers at the same paths. It is a [Source].
type Service struct {
	// Base replaces "https://api.trustedservices.intel.com" in urls that begin with it, for a caching service (PCCS) in
	// one's own network. Default: Intel's.
	Base string
	// Client makes the requests. Default http.DefaultClient.
	Client *http.Client
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// intelService is what Intel's urls begin with.
const intelService = "https://api.trustedservices.intel.com"

// fetchTimeout bounds one request.
const fetchTimeout = 15 * time.Second

// Fetch implements [Source].
func (s *Service) Fetch(ctx context.Context, url string) (Document, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if rest, ok := strings.CutPrefix(url, intelService); ok && s.Base != "" {
		url = strings.TrimSuffix(s.Base, "/") + rest
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return Document{}, s.away(err)
	}
	client := s.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return Document{}, s.away(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Document{}, s.away(fmt.Errorf("%s answers %s", request.URL.Host, response.Status))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, MaxDocument+1))
	if err != nil {
		return Document{}, s.away(err)
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	d := Document{Body: body, Fetched: now().UTC()}
	for _, name := range issuerHeaders {
		if issuer := response.Header.Get(name); issuer != "" {
			d.Issuer = issuer
		}
	}
	return d, nil
}

// away says that the service could not be asked.
func (s *Service) away(err error) error {
	return &schemas.Error{Kind: schemas.KindUnavailable, Field: "collateral", Message: "collateral service: " + err.Error(), Err: err}
}
