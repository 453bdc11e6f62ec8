//go:build !worker

package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/enclave/tdx"
	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of a registry.
const (
	// maxRegistry bounds the bag of cells in bytes; the contract's own data is far below.
	maxRegistry = 4 << 20
	// maxRegistryEntries bounds each of its dictionaries.
	maxRegistryEntries = 10_000
	// maxRegistryVersion is the newest version of its parameters that is understood.
	maxRegistryVersion = 3
)

// Registry is what Cocoon's on-chain root contract says: which images and models its network admits, where its proxies
// are, and what things cost. Numbers are the chain's.
type Registry struct {
	// Owner may change everything; raw form.
	Owner string `json:"owner"`
	// Version counts up with every change.
	Version uint32 `json:"version"`
	// Workers, Proxies and Models are hashes: of images (see CocoonImageHash) and of full model names.
	Workers []schemas.Hash `json:"workers"`
	Proxies []schemas.Hash `json:"proxies"`
	Models  []schemas.Hash `json:"models"`
	// Registered are the proxies' addresses, "host:port host:port".
	Registered []string `json:"registered_proxies"`
	// LastProxy is the number of the newest registered proxy.
	LastProxy uint32 `json:"last_proxy"`
	// Params are the network's parameters.
	Params RegistryParams `json:"params"`
}

// RegistryParams are the contract's parameters.
type RegistryParams struct {
	StructVersion uint8  `json:"struct_version"`
	Version       uint32 `json:"version"`
	UniqueID      uint32 `json:"unique_id"`
	Test          bool   `json:"test"`
	// PricePerToken and WorkerFeePerToken are in nanoTON.
	PricePerToken     uint64 `json:"price_per_token"`
	WorkerFeePerToken uint64 `json:"worker_fee_per_token"`
	// The multipliers are in basis points; 10,000 where the structure's version does not have them.
	Prompt     uint32 `json:"prompt_bp"`
	Cached     uint32 `json:"cached_bp"`
	Completion uint32 `json:"completion_bp"`
	Reasoning  uint32 `json:"reasoning_bp"`
	// The delays are in seconds, the stakes in nanoTON.
	ProxyDelay     uint32 `json:"proxy_delay"`
	ClientDelay    uint32 `json:"client_delay"`
	MinProxyStake  uint64 `json:"min_proxy_stake"`
	MinClientStake uint64 `json:"min_client_stake"`
}

// ParseRegistry reads the bag of cells of the contract's data. Whatever the bytes, it ends with a KindInvalid error or a
// registry.
func ParseRegistry(boc []byte) (r *Registry, err error) {
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, schemas.FieldError("registry", fmt.Sprintf("is malformed: %v", p))
		}
	}()
	if len(boc) > maxRegistry {
		return nil, &schemas.Error{Kind: schemas.KindTooLarge, Field: "registry", Message: "is larger than 4 MiB"}
	}
	root, err := cell.FromBOC(boc)
	if err != nil {
		return nil, schemas.FieldError("registry", "is no bag of cells: "+err.Error())
	}
	slice, err := root.BeginParse()
	if err != nil {
		return nil, schemas.FieldError("registry", "is no data of a root contract: "+err.Error())
	}
	r = &Registry{}
	if err := r.read(&fields{s: slice}); err != nil {
		return nil, schemas.FieldError("registry", "is no data of a root contract: "+err.Error())
	}
	return r, nil
}

// read takes the root apart: owner, data, parameters, version.
func (r *Registry) read(f *fields) error {
	owner := f.address()
	data, params := f.ref(), f.ref()
	r.Version = f.uint32()
	if err := f.end(); err != nil {
		return err
	}
	r.Owner = owner.StringRaw()
	r.Proxies = data.hashes()
	r.Registered = data.proxies()
	r.LastProxy = data.uint32()
	r.Workers = data.hashes()
	r.Models = data.hashes()
	if err := data.end(); err != nil {
		return err
	}
	return r.Params.read(params)
}

// read takes the parameters apart. Later versions of the structure put fields between older ones.
func (p *RegistryParams) read(f *fields) error {
	if p.StructVersion = uint8(f.uint(8)); p.StructVersion > maxRegistryVersion {
		return fmt.Errorf("parameters have version %d, at most %d is understood", p.StructVersion, maxRegistryVersion)
	}
	p.Version, p.UniqueID = f.uint32(), f.uint32()
	p.Test = f.uint(1) == 1
	p.PricePerToken, p.WorkerFeePerToken = f.coins(), f.coins()
	multiplier := func(since uint8) uint32 {
		if p.StructVersion < since {
			return uint32(schemas.One)
		}
		return f.uint32()
	}
	p.Prompt, p.Cached, p.Completion, p.Reasoning = multiplier(3), multiplier(2), multiplier(3), multiplier(2)
	p.ProxyDelay, p.ClientDelay = f.uint32(), f.uint32()
	if p.StructVersion >= 1 {
		p.MinProxyStake, p.MinClientStake = f.coins(), f.coins()
	}
	for range 3 { // the code of proxy, worker and client contracts
		f.maybeRef()
	}
	return f.end()
}

// fields reads a cell in order; after the first failure it gives zeros and remembers.
type fields struct {
	s   *cell.Slice
	err error
}

// note keeps the first error.
func (f *fields) note(err error) bool {
	if f.err == nil {
		f.err = err
	}
	return f.err == nil
}

// uint reads a number of some bits, at most 64.
func (f *fields) uint(bits uint) uint64 {
	if f.err != nil {
		return 0
	}
	v, err := f.s.LoadUInt(bits)
	f.note(err)
	return v
}

// uint32 reads a number of 32 bits.
func (f *fields) uint32() uint32 { return uint32(f.uint(32)) }

// coins reads an amount; one above 64 bits is an error.
func (f *fields) coins() uint64 {
	if f.err != nil {
		return 0
	}
	v, err := f.s.LoadBigCoins()
	if !f.note(err) {
		return 0
	}
	if !v.IsUint64() {
		f.note(errors.New("an amount above 64 bits"))
		return 0
	}
	return v.Uint64()
}

// address reads a standard address.
func (f *fields) address() *address.Address {
	if f.err != nil {
		return address.NewAddressNone()
	}
	a, err := f.s.LoadAddr()
	if !f.note(err) {
		return address.NewAddressNone()
	}
	if a.Type() != address.StdAddress {
		f.note(errors.New("the owner is no standard address"))
	}
	return a
}

// ref opens a referenced cell.
func (f *fields) ref() *fields {
	if f.err != nil {
		return &fields{err: f.err}
	}
	s, err := f.s.LoadRef()
	f.note(err)
	return &fields{s: s, err: err}
}

// maybeRef passes an optional reference.
func (f *fields) maybeRef() {
	if f.err == nil {
		_, err := f.s.LoadMaybeRef()
		f.note(err)
	}
}

// dict reads the entries of a dictionary with keys of some bits.
func (f *fields) dict(bits uint) []cell.DictKV {
	if f.err != nil {
		return nil
	}
	d, err := f.s.LoadDict(bits)
	if !f.note(err) || d == nil || d.IsEmpty() {
		return nil
	}
	entries, err := d.LoadAll()
	if f.note(err) && len(entries) > maxRegistryEntries {
		f.note(fmt.Errorf("a dictionary has more than %d entries", maxRegistryEntries))
	}
	return entries
}

// hashes reads a dictionary of hashes with empty values.
func (f *fields) hashes() []schemas.Hash {
	list := []schemas.Hash{}
	for _, entry := range f.dict(256) {
		b, err := entry.Key.LoadSlice(256)
		if !f.note(err) {
			return nil
		}
		list = append(list, schemas.Hash(b))
	}
	return list
}

// proxies reads the registered proxies: a zero bit, the length in 7 bits and that many characters.
func (f *fields) proxies() []string {
	list := []string{}
	for _, entry := range f.dict(32) {
		v := &fields{s: entry.Value}
		v.uint(1)
		size := uint(v.uint(7))
		if f.note(v.err) && size > 0 {
			b, err := v.s.LoadSlice(8 * size)
			f.note(err)
			list = append(list, string(b))
		}
	}
	return list
}

// end demands that everything was read.
func (f *fields) end() error {
	if f.err == nil && (f.s.BitsLeft() != 0 || f.s.RefsNum() != 0) {
		f.note(errors.New("data after the last field"))
	}
	return f.err
}

// CocoonImageHash is how the first Cocoon names an image: the SHA-256 of its launch registers. It leaves out attributes,
// TDX module and TCB, which our policies judge as well.
func CocoonImageHash(r tdx.Registers) schemas.Hash {
	h := sha256.New()
	for _, m := range []schemas.Measure{r.MRTD, r.MRConfigID, r.MROwner, r.MROwnerConfig, r.RTMR[0], r.RTMR[1], r.RTMR[2], r.RTMR[3]} {
		h.Write(m[:])
	}
	return schemas.Hash(h.Sum(nil))
}

// registryCandidates are the things whose hashes may be in a registry.
type registryCandidates struct {
	// quotes are files with raw quotes, models full model names.
	quotes, models []string
}

// admit puts the candidates that the registry lists into a draft, and says what it did and could not do.
func (r *Registry) admit(p *schemas.Policy, c registryCandidates) (notes []string, err error) {
	for _, path := range c.quotes {
		note, err := r.admitQuote(p, path)
		if err != nil {
			return nil, err
		}
		notes = append(notes, note)
	}
	for _, name := range c.models {
		notes = append(notes, r.admitModel(p, name))
	}
	slices.Sort(p.Models)
	p.Models = slices.Compact(p.Models)
	return append(notes,
		fmt.Sprintf("the registry lists %d worker images, %d proxy images and %d models by hash only", len(r.Workers), len(r.Proxies), len(r.Models)),
		"the registry says nothing about TDX modules, TCB, machines and GPUs: add them before signing"), nil
}

// admitQuote admits the image of a quote if the registry lists it. The quote is only read: what it is compared with is
// the chain's word.
func (r *Registry) admitQuote(p *schemas.Policy, path string) (string, error) {
	raw, err := readLimited(nil, path, 2*schemas.MaxQuote)
	if err != nil {
		return "", err
	}
	registers, err := tdx.ReadRegisters(tdx.Trim(raw))
	if err != nil {
		return "", err
	}
	hash, role := CocoonImageHash(registers), schemas.RoleWorker
	switch {
	case slices.Contains(r.Workers, hash):
	case slices.Contains(r.Proxies, hash):
		role = schemas.RoleBroker
	default:
		return fmt.Sprintf("%s: image %s is not in the registry", path, hash), nil
	}
	m := schemas.Measurement{
		Name: "cocoon-" + string(role) + "-" + hex.EncodeToString(hash[:4]), Role: role, MRTD: registers.MRTD,
		RTMR0: registers.RTMR[0], RTMR1: registers.RTMR[1], RTMR2: registers.RTMR[2],
		MRConfigID: registers.MRConfigID, MROwner: registers.MROwner, MROwnerConfig: registers.MROwnerConfig, Configs: []schemas.Hash{},
	}
	if role == schemas.RoleWorker {
		m.MinGPUs, m.MaxGPUs = 1, 8
	}
	p.Measurements = append(p.Measurements, m)
	return fmt.Sprintf("%s: image %s is in the registry; its entry admits nothing until a configuration is added (policy add config FILE %s HASH)", path, hash, m.Name), nil
}

// admitModel admits a model if the registry lists its full name. The first Cocoon spells the root of the weights as bare
// hex digits.
func (r *Registry) admitModel(p *schemas.Policy, name string) string {
	if !slices.Contains(r.Models, schemas.HashOf([]byte(name))) {
		return fmt.Sprintf("model %s is not in the registry", name)
	}
	head, root, ok := strings.Cut(name, ":")
	id := head + ":sha256-" + root
	if _, err := schemas.ParseModelID(id); !ok || err != nil {
		return fmt.Sprintf("model %s is in the registry, but its name cannot be spelled as ours: %v", name, err)
	}
	p.Models = append(p.Models, schemas.ModelID(id))
	return fmt.Sprintf("model %s is in the registry", name)
}

// lines is a registry for people.
func (r *Registry) lines() [][2]string {
	return [][2]string{
		{"registry owner", r.Owner},
		{"registry version", strconv.FormatUint(uint64(r.Version), 10)},
		{"registry price", fmt.Sprintf("%d nanoTON per token, worker fee %d", r.Params.PricePerToken, r.Params.WorkerFeePerToken)},
		{"registry proxies", joined(r.Registered)},
	}
}
