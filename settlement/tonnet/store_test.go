package tonnet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	tonapi "github.com/xssnick/tonutils-go/ton"

	"github.com/cocoon-network/cocoon/schemas"
)

// onDisk keeps the network in a folder.
func onDisk(dir string) func(*Config) {
	return func(c *Config) { c.Dir = dir }
}

// restart closes the network and opens it again, on the same clock.
func (b *bundle) restart() {
	b.t.Helper()
	if err := b.Net.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.reopen()
}

// reopen opens the network again, without closing it properly before.
func (b *bundle) reopen() {
	b.t.Helper()
	n, err := Open(b.Net.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { n.Close() })
	b.Net, b.srv = n, n.NewServer()
}

// kill lets go of the files as the end of the process would: nothing is written.
func (b *bundle) kill() {
	b.t.Helper()
	b.Net.mu.Lock()
	defer b.Net.mu.Unlock()
	b.Net.closed = true
	if err := b.Net.release(); err != nil {
		b.t.Fatal(err)
	}
}

// TestRestart: a network goes on where it stopped, with the same keys, blocks and balances, in the middle of a payment.
func TestRestart(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*bundle){"closed": (*bundle).restart, "killed": func(b *bundle) { b.kill(); b.reopen() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := setup(t, onDisk(t.TempDir()), twoPhase).highload(600, "100")
			api := h.api()
			if _, err := api.GetMasterchainInfo(t.Context()); err != nil { // now it trusts the newest block
				t.Fatal(err)
			}
			ms, _ := h.batch(10, 0, "1")
			h.mustSend(true, ms)
			h.produce() // the wallet accepted; its message to itself is under way
			genesis, last, key := h.Genesis(), h.Last(), h.srv.key
			stop(h.bundle)
			if !h.Genesis().Equals(genesis) || !h.Last().Equals(last) || !bytes.Equal(h.srv.key, key) {
				t.Fatal("another network")
			}
			h.produce()
			stop(h.bundle) // and now those to the receivers
			h.produce()
			if got := h.paid(0, 10); got != 10 {
				t.Fatalf("paid %d of 10", got)
			}
			if txs := h.history(h.w.WalletAddress()); len(txs) != 3 {
				t.Errorf("%d transactions", len(txs))
			}
			again := h.api()
			again.SetTrustedBlock(last)
			acc, err := again.GetAccount(t.Context(), mustInfo(t, again), someone(3))
			if err != nil || acc.State.Balance.String() != "1" {
				t.Errorf("a client from before: %v, %v", acc, err)
			}
		})
	}
}

func mustInfo(t *testing.T, api *tonapi.APIClient) *tonapi.BlockIDExt {
	t.Helper()
	id, err := api.GetMasterchainInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestRestartChangesNothing: the same life with and without restarts gives the same blocks, byte for byte.
func TestRestartChangesNothing(t *testing.T) {
	t.Parallel()
	life := func(stop func(*bundle), change ...func(*Config)) *tonapi.BlockIDExt {
		h := setup(t, append(change, twoPhase, func(c *Config) { c.Seed = []byte("life") })...).highload(600, "1000")
		for i := range 12 {
			h.qid++
			ms, _ := h.batch(30, i*10, "0.3") // receivers overlap between batches
			h.mustSend(i == 0, ms)
			for range 3 {
				h.clock.advance(5 * time.Second)
				h.produce()
				stop(h.bundle)
			}
		}
		return h.Last()
	}
	calm := life(func(*bundle) {})
	if got := life((*bundle).restart, onDisk(t.TempDir())); !got.Equals(calm) {
		t.Errorf("with restarts block %d is %x, without %x", got.SeqNo, got.RootHash, calm.RootHash)
	}
	if got := life(func(b *bundle) { b.kill(); b.reopen() }, onDisk(t.TempDir())); !got.Equals(calm) {
		t.Errorf("with kills block %d is %x, without %x", got.SeqNo, got.RootHash, calm.RootHash)
	}
}

// TestTornWrite stops the network in the middle of writing a block, at every place of the record: the block is gone, the
// one before is there, and the network goes on.
func TestTornWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := setup(t, onDisk(dir), twoPhase).highload(600, "100")
	ms, _ := h.batch(3, 0, "1")
	h.mustSend(true, ms)
	before := h.produce()
	start := h.chain.log.size
	h.produce()
	h.kill()
	path := filepath.Join(dir, blocksFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	record := len(whole) - int(start)
	damage := map[string][]byte{
		"zeros":               append(bytes.Clone(whole[:start]), make([]byte, record)...),
		"zeros after":         append(bytes.Clone(whole[:int(start)+record/2]), make([]byte, record-record/2)...),
		"zeros in the header": append(bytes.Clone(whole[:start+20]), make([]byte, record-20)...),
		"bit flipped":         flip(whole, len(whole)-1),
	}
	for cut := 0; cut < record; cut += 1 + record/97 {
		damage[fmt.Sprintf("cut after %d", cut)] = whole[:int(start)+cut]
	}
	for name, content := range damage {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		h.reopen()
		if got := h.Last().SeqNo; got != before.Seqno {
			t.Fatalf("%s: newest block %d, want %d", name, got, before.Seqno)
		}
		h.produce()
		h.produce()
		if got := h.paid(0, 3); got != 3 {
			t.Fatalf("%s: paid %d", name, got)
		}
		h.kill()
		os.Remove(filepath.Join(dir, snapshotFile))
	}
}

// flip returns a copy of b with one bit flipped.
func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// TestCorruptLog: damage in the middle is not a torn write; it is found when the block is needed, and nothing is cut off.
func TestCorruptLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, onDisk(dir))
	for range 5 {
		b.produce()
	}
	third := b.chain.entry(3).off
	b.kill()
	path := filepath.Join(dir, blocksFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]int64{"magic": third, "length": third + 15, "seqno": third + 24, "body": third + headerSize + 10} {
		if err := os.WriteFile(path, flip(whole, int(at)), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := Open(b.cfg); !errors.Is(err, schemas.KindCorrupt) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				n.Close()
			}
		}
		if st, err := os.Stat(path); err != nil || st.Size() != int64(len(whole)) {
			t.Fatalf("%s: the log was changed", name)
		}
	}
}

// TestSnapshot: a snapshot saves applying all blocks, and is believed only if a block confirms it.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, onDisk(dir))
	b.faucet(someone(1), "1")
	b.restart()
	if _, err := b.chain.block(1); err != nil {
		t.Fatal(err)
	}
	if b.chain.states[1] != nil || b.chain.states[2] == nil {
		t.Error("all blocks were applied although there is a snapshot")
	}
	path := filepath.Join(dir, snapshotFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := setup(t, func(c *Config) { c.Seed = []byte("other") })
	other.produce()
	ahead := &world{shard: b.chain.head().shard, master: b.chain.head().master}
	for name, content := range map[string][]byte{
		"empty": nil, "cut": good[:len(good)-1], "bit flipped": flip(good, len(good)-1), "of another network": encodeSnapshot(2, other.chain.head()),
		"ahead": encodeSnapshot(99, ahead), "of another block": encodeSnapshot(1, ahead),
	} {
		b.kill()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		b.reopen()
		if b.chain.states[1] == nil || b.nano(someone(1)) != 1_000_000_000 {
			t.Errorf("%s: the snapshot was believed", name)
		}
	}
}

// badMedium fails writes after a number of bytes.
type badMedium struct {
	medium
	room int
}

var errFull = errors.New("no space left")

func (m *badMedium) WriteAt(p []byte, off int64) (int, error) {
	n := min(len(p), m.room)
	m.room -= n
	if _, err := m.medium.WriteAt(p[:n], off); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// TestFailedWrite: a block that cannot be written is not part of the chain, and what it would have done is done later.
func TestFailedWrite(t *testing.T) {
	t.Parallel()
	h := setup(t).highload(600, "100")
	ms, _ := h.batch(3, 0, "1")
	h.mustSend(true, ms)
	last, disk := h.Last(), h.chain.log.on
	for _, room := range []int{0, 10, headerSize, headerSize + 100} {
		h.chain.log.on = &badMedium{medium: disk, room: room}
		if _, err := h.Produce(); !errors.Is(err, errFull) || !schemas.Retriable(err) {
			t.Fatal(err)
		}
		if !h.Last().Equals(last) || h.paid(0, 3) != 0 {
			t.Fatal("a block that was not written can be seen")
		}
	}
	h.chain.log.on = disk
	h.produce()
	if got := h.paid(0, 3); got != 3 || h.Last().SeqNo != last.SeqNo+1 {
		t.Errorf("paid %d", got)
	}
}

// TestLock: one directory, one process.
func TestLock(t *testing.T) {
	t.Parallel()
	b := setup(t, onDisk(t.TempDir()))
	if _, err := Open(b.cfg); !errors.Is(err, schemas.KindConflict) {
		t.Errorf("opened twice: %v", err)
	}
	b.restart()
}

// TestGenesisKept: what a network was made from stays, whatever a later config says.
func TestGenesisKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, onDisk(dir))
	genesis := b.Genesis()
	b.kill()
	b.Net.cfg.Seed, b.Net.cfg.Params = []byte("another"), DevConfig()
	b.reopen()
	if !b.Genesis().Equals(genesis) {
		t.Error("another genesis")
	}
	b.kill()
	for name, content := range map[string]string{"garbage": "{", "no seed": `{"version":1}`} {
		if err := os.WriteFile(filepath.Join(dir, genesisFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(b.cfg); !errors.Is(err, schemas.KindCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOldBlocks: blocks that left memory are answered from the log, states that left it are refused.
func TestOldBlocks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.faucet(someone(1), "1")
	second := b.Last()
	for range KeepStates + keepBlocks {
		b.produce()
	}
	if len(b.chain.blocks) > keepBlocks || len(b.chain.states) > KeepStates {
		t.Fatalf("%d blocks and %d states in memory", len(b.chain.blocks), len(b.chain.states))
	}
	api := b.api()
	blk, err := api.GetBlockData(t.Context(), second)
	if err != nil || blk.BlockInfo.SeqNo != 2 {
		t.Fatal(err)
	}
	acc, err := api.GetAccount(t.Context(), mustInfo(t, api), someone(1))
	if err != nil {
		t.Fatal(err)
	}
	if txs, err := api.ListTransactions(t.Context(), someone(1), 5, acc.LastTxLT, acc.LastTxHash); err != nil || len(txs) != 1 {
		t.Errorf("%v, %v", txs, err)
	}
	_, err = api.GetAccount(t.Context(), second, someone(1))
	var gone tonapi.LSError
	if !errors.As(err, &gone) || gone.Code != codeNotReady {
		t.Errorf("state of an old block: %v", err)
	}
}

// crashDir names the folder in which a child process makes blocks until it is killed.
const crashDir = "TONNET_CRASH_DIR"

// runCrashChild makes blocks with a payment in each and says so on stdout, if this process is such a child.
func runCrashChild() bool {
	dir := os.Getenv(crashDir)
	if dir == "" {
		return false
	}
	n, err := Open(Config{Dir: dir})
	if err != nil {
		fmt.Println("error", err)
		return true
	}
	for i := 0; ; i++ {
		if err = n.Faucet(someone(i%50), tlb.MustFromTON("1")); err == nil {
			_, err = n.Produce()
		}
		if err != nil {
			fmt.Println("error", err)
			return true
		}
		fmt.Println(n.Last().SeqNo) // from here on a client may have seen it
	}
}

// TestKill kills a process that makes blocks, at no particular moment, again and again: nothing that it showed is lost,
// and every gift in the blocks that are there is there.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 5 {
		shown := killChild(t, dir, 20+37*round)
		n, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		last := n.Last().SeqNo
		if int(last) < shown {
			t.Fatalf("block %d was shown, the newest is %d", shown, last)
		}
		gifts := 0
		for i := range 50 {
			txs, err := n.History(someone(i))
			if err != nil {
				t.Fatal(err)
			}
			gifts += len(txs)
		}
		if gifts != int(last)-1 { // the first block has none
			t.Errorf("%d gifts in %d blocks", gifts, last)
		}
		n.kill()
	}
}

// kill is that of bundle.
func (n *Net) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.release()
}

// killChild starts a child, kills it when it has shown some blocks, and returns the last that it showed.
func killChild(t *testing.T, dir string, blocks int) (shown int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal("child:", lines.Text())
		}
		shown = n
		if i == blocks {
			if err = cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child ended by itself")
	}
	return shown
}

// FuzzRecord: what parses encodes again to the same bytes.
func FuzzRecord(f *testing.F) {
	for _, r := range []record{{}, {entry: entry{seqno: 1, utime: 2, startLT: 3, endLT: 4}, shardBoC: []byte("shard"), masterBoC: []byte("master"), carryBoC: []byte("x")}} {
		f.Add(r.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.encode(), b) {
			t.Errorf("%x", b)
		}
		if _, err := r.open(); err != nil && !errors.Is(err, schemas.KindCorrupt) {
			t.Error(err)
		}
	})
}

// FuzzQuery: no bytes make a server panic.
func FuzzQuery(f *testing.F) {
	n, err := Open(Config{Seed: []byte("fuzz")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { n.Close() })
	s := n.NewServer()
	acc := tonapi.AccountID{ID: make([]byte, 32)}
	for _, q := range []tl.Serializable{
		tonapi.GetMasterchainInf{},
		tonapi.GetAccountState{ID: n.Genesis(), Account: acc},
		tonapi.GetBlockHeader{ID: n.Genesis()},
		tonapi.GetTransactions{Limit: 3, AccID: &acc, LT: 1, TxHash: make([]byte, 32)},
		tonapi.SendMessage{Body: []byte("x")},
		tonapi.GetBlockProof{KnownBlock: n.Genesis()},
		tonapi.LookupBlock{Mode: 1, ID: &tonapi.BlockInfoShort{Workchain: -1, Shard: wholeShard, Seqno: 1}},
		tonapi.ListBlockTransactions{ID: n.Genesis(), Mode: 7, Count: 3},
		tonapi.RunSmcMethod{Mode: 7, ID: n.Genesis(), Account: acc, MethodID: 85143},
	} {
		b, err := tl.Serialize(q, true)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var resp tl.Serializable
		_ = s.QueryLiteserver(t.Context(), tl.Raw(b), &resp) // what it says does not matter
	})
}
