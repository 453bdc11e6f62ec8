//go:build !worker

package main

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
)

func TestWireScanFindsPlaintext(t *testing.T) {
	t.Parallel()
	s := newWireScan()
	if s.learn("too short") {
		t.Fatal("a text of 9 bytes was taken")
	}
	for _, text := range []string{"the red cat sleeps", "the red dog sleeps", "the red cat sleeps"} {
		if !s.learn(text) {
			t.Fatalf("%q was not taken", text)
		}
	}
	noise := make([]byte, 1<<16)
	rand.Read(noise)
	s.scan("noise", noise)
	if n, hits := s.result(); n != 1<<16 || len(hits) != 0 {
		t.Fatalf("noise: %d bytes, hits %v", n, hits)
	}
	s.scan("jobs.x", append(noise[:100:100], "…the red cat sleeps"...))
	s.scan("cut", []byte("the red cat sleep"))
	if _, hits := s.result(); len(hits) != 1 || hits[0] != (scanHit{"jobs.x", "the red cat sleeps"}) {
		t.Fatalf("hits %v", hits)
	}
}

// TestWireScanAcrossChunks puts a text exactly across the border of two reads, where a naive scan is blind.
func TestWireScanAcrossChunks(t *testing.T) {
	t.Parallel()
	text := "the red cat sleeps"
	for _, at := range []int{0, scanChunk - 1, scanChunk - 7, scanChunk + 5, 2*scanChunk - 9} {
		s := newWireScan()
		s.learn(text)
		s.learn("a much longer text, so that the chunks overlap by more than the other one")
		file := bytes.Repeat([]byte{'.'}, 2*scanChunk+100)
		copy(file[at:], text)
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "1.blk"), file, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.scanFiles(dir); err != nil {
			t.Fatal(err)
		}
		if n, hits := s.result(); n != int64(len(file)) || len(hits) != 1 {
			t.Errorf("text at %d: %d bytes, %d hits", at, n, len(hits))
		}
	}
}
