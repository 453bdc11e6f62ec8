//go:build !worker

package cli

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/enclave/sim"
	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/schemas/cli"
)

// registryCell builds the data of a root contract as the chain has it.
type registryCell struct {
	workers, proxies, models []schemas.Hash
	registered               []string
	structVersion            uint64
	version                  uint64
	trailing                 bool
}

// hashDict is a dictionary of hashes with empty values.
func hashDict(list []schemas.Hash) *cell.Dictionary {
	d := cell.NewDict(256)
	for _, h := range list {
		if err := d.Set(cell.BeginCell().MustStoreSlice(h[:], 256).EndCell(), cell.BeginCell().EndCell()); err != nil {
			panic(err)
		}
	}
	return d
}

// boc spells the cell.
func (c registryCell) boc() []byte {
	registered := cell.NewDict(32)
	for i, text := range c.registered {
		value := cell.BeginCell().MustStoreUInt(0, 1).MustStoreUInt(uint64(len(text)), 7).MustStoreSlice([]byte(text), uint(8*len(text))).EndCell()
		if err := registered.Set(cell.BeginCell().MustStoreUInt(uint64(i+1), 32).EndCell(), value); err != nil {
			panic(err)
		}
	}
	data := cell.BeginCell().MustStoreDict(hashDict(c.proxies)).MustStoreDict(registered).MustStoreUInt(uint64(len(c.registered)), 32).
		MustStoreDict(hashDict(c.workers)).MustStoreDict(hashDict(c.models)).EndCell()
	params := cell.BeginCell().MustStoreUInt(c.structVersion, 8).MustStoreUInt(4, 32).MustStoreUInt(77, 32).MustStoreUInt(1, 1).
		MustStoreCoins(20).MustStoreCoins(10)
	if c.structVersion >= 3 {
		params.MustStoreUInt(10_000, 32)
	}
	if c.structVersion >= 2 {
		params.MustStoreUInt(1_000, 32)
	}
	if c.structVersion >= 3 {
		params.MustStoreUInt(80_000, 32)
	}
	if c.structVersion >= 2 {
		params.MustStoreUInt(80_001, 32)
	}
	params.MustStoreUInt(3600, 32).MustStoreUInt(7200, 32)
	if c.structVersion >= 1 {
		params.MustStoreCoins(1_000_000_000).MustStoreCoins(2_000_000_000)
	}
	params.MustStoreMaybeRef(cell.BeginCell().MustStoreUInt(1, 8).EndCell()).MustStoreMaybeRef(nil).MustStoreMaybeRef(cell.BeginCell().MustStoreUInt(3, 8).EndCell())
	if c.trailing {
		params.MustStoreUInt(1, 1)
	}
	root := cell.BeginCell().MustStoreAddr(address.MustParseRawAddr("0:"+strings.Repeat("5a", 32))).
		MustStoreRef(data).MustStoreRef(params.EndCell()).MustStoreUInt(c.version, 32).EndCell()
	return root.ToBOC()
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	c := registryCell{
		workers: []schemas.Hash{{1}, {2}}, proxies: []schemas.Hash{{3}}, models: []schemas.Hash{{4}, {5}, {6}},
		registered: []string{"10.0.0.1:8080 10.0.0.2:8081"}, structVersion: 3, version: 5,
	}
	r, err := ParseRegistry(c.boc())
	if err != nil {
		t.Fatal(err)
	}
	if r.Owner != "0:"+strings.Repeat("5a", 32) || r.Version != 5 || r.LastProxy != 1 || !slices.Equal(r.Registered, c.registered) {
		t.Errorf("registry: %+v", r)
	}
	if len(r.Workers) != 2 || !slices.Contains(r.Workers, schemas.Hash{2}) || len(r.Proxies) != 1 || len(r.Models) != 3 {
		t.Errorf("hashes: %v %v %v", r.Workers, r.Proxies, r.Models)
	}
	want := RegistryParams{
		StructVersion: 3, Version: 4, UniqueID: 77, Test: true, PricePerToken: 20, WorkerFeePerToken: 10, Prompt: 10_000, Cached: 1_000, Completion: 80_000, Reasoning: 80_001,
		ProxyDelay: 3600, ClientDelay: 7200, MinProxyStake: 1_000_000_000, MinClientStake: 2_000_000_000,
	}
	if r.Params != want {
		t.Errorf("parameters: %+v", r.Params)
	}
	for version := range uint64(3) { // older structures lack fields
		old := c
		old.structVersion = version
		r, err := ParseRegistry(old.boc())
		if err != nil || r.Params.Completion != 10_000 || r.Params.ProxyDelay != 3600 || (r.Params.MinProxyStake == 0) != (version == 0) {
			t.Errorf("structure version %d: %+v, %v", version, r, err)
		}
	}
	empty, err := ParseRegistry(registryCell{}.boc())
	if err != nil || len(empty.Workers)+len(empty.Proxies)+len(empty.Models)+len(empty.Registered) != 0 {
		t.Errorf("empty registry: %+v, %v", empty, err)
	}
}

func TestBadRegistries(t *testing.T) {
	t.Parallel()
	good := registryCell{workers: []schemas.Hash{{1}, {2}}, models: []schemas.Hash{{4}}, registered: []string{"a b"}, structVersion: 3}
	newer, trailing := good, good
	newer.structVersion, trailing.trailing = 4, true
	for name, b := range map[string][]byte{
		"empty": nil, "not a bag of cells": []byte("hello"), "too large": make([]byte, maxRegistry+1), "newer structure": newer.boc(), "trailing data": trailing.boc(),
		"an empty cell": cell.BeginCell().EndCell().ToBOC(), "another contract": cell.BeginCell().MustStoreUInt(7, 64).EndCell().ToBOC(),
	} {
		if _, err := ParseRegistry(b); schemas.KindOf(err) != schemas.KindInvalid && schemas.KindOf(err) != schemas.KindTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	random, boc := rand.New(rand.NewPCG(1, 2)), good.boc()
	for range 3000 {
		x := bytes.Clone(boc)
		x[random.IntN(len(x))] ^= byte(1 + random.IntN(255))
		if _, err := ParseRegistry(x[:random.IntN(len(x)+1)]); err != nil && schemas.KindOf(err) != schemas.KindInvalid {
			t.Fatalf("untyped error: %v", err)
		}
	}
}

func FuzzRegistry(f *testing.F) {
	f.Add(registryCell{workers: []schemas.Hash{{1}}, registered: []string{"a b"}, structVersion: 3}.boc())
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ParseRegistry(b); err != nil && schemas.KindOf(err) != schemas.KindInvalid && schemas.KindOf(err) != schemas.KindTooLarge {
			t.Fatalf("untyped error: %v", err)
		}
	})
}

// TestImportRegistry shows candidates to a registry: those that it lists go into the draft.
func TestImportRegistry(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	p, err := sim.New([sim.SeedSize]byte{1}, sim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	quote := func(image string) (string, schemas.Hash) {
		td, err := p.Launch("host", sim.ImageRegisters(image))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := td.Quote(context.Background(), [64]byte{})
		if err != nil {
			t.Fatal(err)
		}
		registers, err := tdx.ReadRegisters(raw)
		if err != nil {
			t.Fatal(err)
		}
		return d.file(image+".quote", append(raw, 0, 0)), CocoonImageHash(registers)
	}
	worker, workerHash := quote("worker")
	proxy, proxyHash := quote("proxy")
	stranger, _ := quote("stranger")
	model := "Seed-X-PPO-7B@abc:" + strings.Repeat("1f", 32)
	d.file("root.boc", registryCell{
		workers: []schemas.Hash{workerHash}, proxies: []schemas.Hash{proxyHash}, models: []schemas.Hash{schemas.HashOf([]byte(model))}, structVersion: 3, version: 9,
	}.boc())
	out := d.must("policy", "init", "@p.json", "--registry", "@root.boc", "--quote", worker+","+proxy+","+stranger, "--model", model+",other@1:22")
	for _, want := range []string{"registry version", "is not in the registry", "model other@1:22 is not in the registry", "add them before signing", "admits nothing until a configuration is added"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	text, err := os.ReadFile(d.path("p.json"))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := schemas.ParsePolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(policy.Measurements) != 2 || policy.Measurements[0].Role != schemas.RoleWorker || policy.Measurements[0].MRTD != sim.ImageRegisters("worker").MRTD || policy.Measurements[1].Role != schemas.RoleBroker {
		t.Errorf("images: %+v", policy.Measurements)
	}
	if want := schemas.ModelID("Seed-X-PPO-7B@abc:sha256-" + strings.Repeat("1f", 32)); len(policy.Models) != 1 || policy.Models[0] != want {
		t.Errorf("models: %v", policy.Models)
	}
	if policy.Environment != schemas.Production || policy.Simulated != nil {
		t.Errorf("environment: %s", policy.Environment)
	}
	d.file("bad.boc", []byte("nothing"))
	d.exits(cli.ExitError, "registry", "policy", "init", "@q.json", "--registry", "@bad.boc")
	if _, err := os.Stat(d.path("q.json")); err == nil {
		t.Error("a draft was written for a broken registry")
	}
}
