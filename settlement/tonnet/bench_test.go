package tonnet

import (
	"fmt"
	"testing"

	tonapi "github.com/xssnick/tonutils-go/ton"
)

// BenchmarkTransfers measures the whole way of a batch of 250: sign, send, accept, execute in three blocks, prove, store.
func BenchmarkTransfers(b *testing.B) {
	for name, change := range map[string]func(*Config){"memory": twoPhase, "disk": func(c *Config) { twoPhase(c); c.Dir = b.TempDir() }} {
		b.Run(name, func(b *testing.B) {
			h := setup(b, change).highload(3600, "100000000")
			n := 0
			for i := 0; b.Loop(); i++ {
				if h.qid++; h.qid&1023 == 1023 {
					continue
				}
				ms, _ := h.batch(250, i*250, "0.05")
				h.mustSend(i == 0, ms)
				for range 3 {
					h.produce()
				}
				n += 250
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "transfers/s")
		})
	}
}

// BenchmarkEmptyBlock measures what keeping time costs, in time and on disk.
func BenchmarkEmptyBlock(b *testing.B) {
	h := setup(b).highload(3600, "1000")
	before := h.chain.log.size
	n := 0
	for b.Loop() {
		h.produce()
		n++
	}
	b.ReportMetric(float64(h.chain.log.size-before)/float64(n), "bytes/block")
}

// BenchmarkAccount measures one proven read of an account among 10,000.
func BenchmarkAccount(b *testing.B) {
	h := setup(b).highload(3600, "100000000")
	for i := range 40 {
		h.qid++
		ms, _ := h.batch(250, i*250, "0.05")
		h.mustSend(i == 0, ms)
		h.produce()
	}
	seams := map[string]func() *tonapi.APIClient{"in process": h.api, "ADNL": h.adnl(tonapi.ProofCheckPolicySecure)}
	for name, api := range seams {
		b.Run(name, func(b *testing.B) {
			api := api()
			id, err := api.GetMasterchainInfo(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for i := 0; b.Loop(); i++ {
				if _, err := api.GetAccount(b.Context(), id, someone(i%10000)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen measures a start from a snapshot, and one that has to apply every block.
func BenchmarkOpen(b *testing.B) {
	const blocks = 2000
	h := setup(b, onDisk(b.TempDir())).highload(3600, "100000000")
	for i := range blocks {
		if i%50 == 0 {
			h.qid++
			ms, _ := h.batch(100, i, "0.05")
			h.mustSend(i == 0, ms)
		}
		h.produce()
	}
	h.kill()
	b.Run(fmt.Sprintf("%d blocks", blocks), func(b *testing.B) {
		for b.Loop() {
			h.reopen()
			h.kill()
		}
	})
}
