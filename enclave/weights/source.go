package weights

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/schemas"
)

// Source gets packages from one kind of place. A source is trusted for nothing but being there: everything it delivers is
// verified.
type Source interface {
	// Open begins to read a package. Failures to reach it are KindUnavailable, a package that is not there KindNotFound.
	Open(ctx context.Context, location string) (io.ReadCloser, error)
}

// Sources are the sources by scheme: what stands before the first colon of a location. A network adds its object store
// under "object".
type Sources map[string]Source

// DefaultSources read files and http(s) urls.
func DefaultSources() Sources {
	web := HTTPSource{Client: http.DefaultClient}
	return Sources{"file": FileSource{}, "http": web, "https": web}
}

// Open tries the locations of a model in order and returns the first that answers.
func (s Sources) Open(ctx context.Context, locations []string) (io.ReadCloser, error) {
	failure := error(&schemas.Error{Kind: schemas.KindNotFound, Field: "locations", Message: "the model has none"})
	for _, location := range locations {
		scheme, _, _ := strings.Cut(location, ":")
		source, ok := s[scheme]
		if !ok {
			failure = &schemas.Error{Kind: schemas.KindUnsupported, Field: "locations", Message: "no source reads " + scheme + ": locations"}
			continue
		}
		r, err := source.Open(ctx, location)
		if err == nil {
			return r, nil
		}
		failure = err
	}
	return nil, failure
}

// FileSource reads file:// locations.
type FileSource struct{}

var _ Source = FileSource{}

// Open implements [Source].
func (FileSource) Open(_ context.Context, location string) (io.ReadCloser, error) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "file" || u.Host != "" || u.Path == "" {
		return nil, schemas.FieldError("locations", "must look like file:///path")
	}
	f, err := os.Open(u.Path)
	if os.IsNotExist(err) {
		return nil, schemas.Errorf(schemas.KindNotFound, "weights: %w", err)
	}
	if err != nil {
		return nil, readFailure(err)
	}
	return f, nil
}

// Limits of a download.
const (
	// maxStalls is how often in a row a download may break without a byte of progress.
	maxStalls = 5
	// stallWait is the wait before it goes on.
	stallWait = time.Second
)

// HTTPSource reads http:// and https:// locations. A download that breaks goes on where it stopped.
type HTTPSource struct{ Client *http.Client }

var _ Source = HTTPSource{}

// Open implements [Source].
func (s HTTPSource) Open(ctx context.Context, location string) (io.ReadCloser, error) {
	d := &download{ctx: ctx, client: s.Client, url: location}
	if err := d.connect(); err != nil {
		return nil, err
	}
	return d, nil
}

// download is one download that may take several requests.
type download struct {
	ctx    context.Context
	client *http.Client
	url    string
	tag    string
	body   io.ReadCloser
	offset int64
	stalls int
}

// connect asks for everything from the offset on.
func (d *download) connect() error {
	request, err := http.NewRequestWithContext(d.ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return schemas.FieldError("locations", "is not a url")
	}
	want := http.StatusOK
	if d.offset > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.offset))
		request.Header.Set("If-Range", d.tag)
		want = http.StatusPartialContent
	}
	response, err := d.client.Do(request)
	if err != nil {
		return schemas.Errorf(schemas.KindUnavailable, "weights: %w", err)
	}
	switch {
	case response.StatusCode == want:
		d.body, d.tag = response.Body, response.Header.Get("ETag")
		return nil
	case response.StatusCode == http.StatusNotFound:
		err = schemas.Errorf(schemas.KindNotFound, "weights: %s answers %s", d.url, response.Status)
	case d.offset > 0 && response.StatusCode == http.StatusOK:
		err = schemas.Errorf(schemas.KindConflict, "weights: %s changed while it was read, or its server cannot go on where it stopped", d.url)
	default:
		err = schemas.Errorf(schemas.KindUnavailable, "weights: %s answers %s", d.url, response.Status)
	}
	response.Body.Close()
	return err
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	for {
		n, err := d.body.Read(p)
		if n > 0 {
			d.offset, d.stalls = d.offset+int64(n), 0
			return n, nil
		}
		if err == nil || err == io.EOF {
			return 0, err
		}
		if err := d.resume(err); err != nil {
			return 0, err
		}
	}
}

// resume connects again after a failure, unless it failed too often or the server cannot tell whether the content is
// still the same.
func (d *download) resume(cause error) error {
	if d.stalls++; d.stalls > maxStalls || d.offset > 0 && d.tag == "" {
		return schemas.Errorf(schemas.KindUnavailable, "weights: %w", cause)
	}
	d.body.Close()
	select {
	case <-d.ctx.Done():
		return d.ctx.Err()
	case <-time.After(stallWait):
	}
	return d.connect()
}

// Close implements io.Closer.
func (d *download) Close() error { return d.body.Close() }
