package streams

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/cocoon-network/cocoon/schemas"
)

// MaxCensus bounds the tenants' queues that a census of one shard lists.
const MaxCensus = 10_000

// TenantQueue is how many jobs of one tenant are not done in one queue, waiting or at a worker.
type TenantQueue struct {
	Route  Route            `json:"route"`
	Class  schemas.Class    `json:"class"`
	Tenant schemas.TenantID `json:"tenant"`
	Jobs   uint64           `json:"jobs"`
}

// Census counts the jobs of a class in one shard by model and tenant, in no order. The server answers it from its index: the
// cost is that of the tenants, not of the jobs. More than MaxCensus of them are cut off.
func (b *Bus) Census(ctx context.Context, shard int, class schemas.Class) ([]TenantQueue, error) {
	filter := fmt.Sprintf("q.%d.*.%s.*.*", shard, class)
	var all []TenantQueue
	for offset := 0; len(all) < MaxCensus; {
		body, err := json.Marshal(map[string]any{"subjects_filter": filter, "offset": offset})
		if err != nil {
			return nil, schemas.Errorf(schemas.KindInternal, "census: %w", err)
		}
		var page struct {
			jetstream.StreamInfo
			Total int `json:"total"`
		}
		err = b.retry(ctx, func(ctx context.Context) error {
			return b.apiRequest(ctx, b.api("STREAM.INFO."+StreamJobs(shard)), body, &page)
		})
		if err != nil {
			return nil, err
		}
		for subject, jobs := range page.State.Subjects {
			if t := strings.Split(subject, "."); len(t) == 6 { // q.<shard>.<model>.<class>.<lane>.<tenant>
				all = append(all, TenantQueue{Route{shard, t[2]}, class, schemas.TenantID(t[5]), jobs})
			}
		}
		if offset += len(page.State.Subjects); len(page.State.Subjects) == 0 || offset >= page.Total {
			break
		}
	}
	return all[:min(len(all), MaxCensus)], nil
}
