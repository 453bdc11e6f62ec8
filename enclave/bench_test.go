package enclave_test

import (
	"crypto/hpke"
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/enclave/enclavetest"
	"github.com/cocoon-network/cocoon/schemas"
)

// BenchmarkFloor is bare HPKE over a body of 4 KiB: what BenchmarkSeal and BenchmarkOpen are measured against.
func BenchmarkFloor(b *testing.B) {
	key, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		sealed, err := hpke.Seal(key.PublicKey(), hpke.HKDFSHA256(), hpke.AES256GCM(), nil, body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := hpke.Open(key, hpke.HKDFSHA256(), hpke.AES256GCM(), nil, sealed); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSeal seals bodies of 4 KiB: alone, and in bulk.
func BenchmarkSeal(b *testing.B) {
	n := enclavetest.New(b)
	tenant, key := n.Tenant(b), n.Key(b)
	body := string(make([]byte, 4<<10))
	b.Run("single", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n.Seal(b, enclave.NewSubmission(tenant, key), body)
		}
	})
	b.Run("bulk", func(b *testing.B) {
		submission := enclave.NewSubmission(tenant, key)
		b.ReportAllocs()
		for b.Loop() {
			n.Seal(b, submission, body)
		}
	})
}

// BenchmarkGrant grants and opens jobs, 64 a call: with an encapsulation each, and with one for all.
func BenchmarkGrant(b *testing.B) {
	for _, shared := range []bool{false, true} {
		b.Run(fmt.Sprintf("shared=%v", shared), func(b *testing.B) {
			n := enclavetest.New(b)
			tenant, key, worker := n.Tenant(b), n.Key(b), n.Session(b)
			n.Credit.Set(tenant.ID(), schemas.Credit{V: 1, Available: 1 << 60, Key: tenant.Public(), Updated: time.Now().UTC().Truncate(time.Second)})
			submission := enclave.NewSubmission(tenant, key)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				var jobs []enclave.Candidate
				for range schemas.MaxGrantBatch {
					if !shared {
						submission = enclave.NewSubmission(tenant, key)
					}
					jobs = append(jobs, enclavetest.Candidate(n.Seal(b, submission, "x")))
				}
				b.StartTimer()
				if _, err := worker.Grant(b.Context(), n.Call, jobs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*schemas.MaxGrantBatch)/b.Elapsed().Seconds(), "grants/s")
		})
	}
}

// BenchmarkResult seals and opens results of 1 KiB.
func BenchmarkResult(b *testing.B) {
	n := enclavetest.New(b)
	tenant, worker := n.Tenant(b), n.Session(b)
	job := n.Grant(b, worker, n.Seal(b, enclave.NewSubmission(tenant, n.Key(b)), "x"))
	result := enclavetest.Result(make([]byte, 1<<10))
	b.ReportAllocs()
	for b.Loop() {
		outcome, err := job.Finish(result, time.Now(), time.Now())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tenant.OpenResult(outcome, enclave.Expect{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChunks streams 50 events of 128 bytes, sealed and padded.
func BenchmarkChunks(b *testing.B) {
	n := enclavetest.New(b)
	job := n.Grant(b, n.Session(b), n.Seal(b, enclave.NewSubmission(n.Tenant(b), n.Key(b)), "x"))
	event := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		w, err := job.Chunks(time.Hour, func([]byte) error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		for range 50 {
			if err := w.Write(event); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
