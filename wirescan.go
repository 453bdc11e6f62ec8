//go:build !worker

package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// minNeedle is the shortest text the scan looks for. Shorter ones ("7", "yes") occur in any ciphertext by chance: a
// given 12-byte text occurs in a gigabyte of random bytes with probability 2^-66.
const minNeedle = 12

// scanChunk is how much of a file the scan holds in memory at once.
const scanChunk = 1 << 20

// wireScan looks for plaintext in everything that crosses or is kept by the message system. Feed it texts with learn,
// then bytes with scan; it is safe for concurrent use after learning.
type wireScan struct {
	// needles holds every text by its first 8 bytes, so that one pass over the bytes finds all of them.
	needles map[[8]byte][]string
	longest int

	mu    sync.Mutex // guards what follows
	bytes int64
	found []scanHit
}

// scanHit is one text found where it must not be.
type scanHit struct {
	// Where names the subject or file; Text is the prompt or answer that was found there.
	Where string `json:"where"`
	Text  string `json:"text"`
}

// newWireScan makes a scan that looks for nothing yet.
func newWireScan() *wireScan { return &wireScan{needles: map[[8]byte][]string{}} }

// learn adds a text to look for; it reports whether the text is long enough to be looked for.
func (s *wireScan) learn(text string) bool {
	if len(text) < minNeedle {
		return false
	}
	key := [8]byte([]byte(text[:8]))
	for _, known := range s.needles[key] {
		if known == text {
			return true
		}
	}
	s.needles[key] = append(s.needles[key], text)
	s.longest = max(s.longest, len(text))
	return true
}

// scan looks through b, which was found at where.
func (s *wireScan) scan(where string, b []byte) {
	hits := s.search(where, b, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += int64(len(b))
	s.found = append(s.found, hits...)
}

// search is the pass itself. Texts that end within the first seen bytes were reported before.
func (s *wireScan) search(where string, b []byte, seen int) (hits []scanHit) {
	for i := 0; i+8 <= len(b); i++ {
		for _, text := range s.needles[[8]byte(b[i:])] {
			if end := i + len(text); end > seen && end <= len(b) && string(b[i:end]) == text {
				hits = append(hits, scanHit{where, text})
			}
		}
	}
	return hits
}

// scanFiles looks through every file below dir. Files overlap their chunks by the longest text, so a text across a
// chunk border is found.
func (s *wireScan) scanFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		return s.scanFile(path)
	})
}

// scanFile looks through one file.
func (s *wireScan) scanFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("scan stored bytes: %w", err)
	}
	defer f.Close()
	buf := make([]byte, 0, scanChunk+s.longest)
	for {
		n, err := io.ReadFull(f, buf[len(buf):cap(buf)])
		seen, fresh := len(buf), buf[:len(buf)+n]
		hits := s.search(path, fresh, seen)
		s.mu.Lock()
		s.bytes += int64(n)
		s.found = append(s.found, hits...)
		s.mu.Unlock()
		if err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return nil
			}
			return fmt.Errorf("scan stored bytes: %w", err)
		}
		keep := min(len(fresh), max(s.longest-1, 0))
		buf = buf[:copy(buf[:keep], fresh[len(fresh)-keep:])]
	}
}

// result is how much was looked through and what was found.
func (s *wireScan) result() (bytes int64, hits []scanHit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes, s.found
}
