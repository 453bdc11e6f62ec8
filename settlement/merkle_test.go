package settlement_test

import (
	"math/bits"
	"testing"

	"pgregory.net/rapid"

	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/settlement"
)

// naiveRoot is the definition in RFC 6962, word for word.
func naiveRoot(leaves []schemas.Hash) schemas.Hash {
	if len(leaves) == 1 {
		return leaves[0]
	}
	k := 1 << (bits.Len(uint(len(leaves)-1)) - 1)
	return settlement.Node(naiveRoot(leaves[:k]), naiveRoot(leaves[k:]))
}

// TestTree: roots are those of the definition, every leaf's path leads to the root, and nothing else's does.
func TestTree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "leaves")
		leaves := make([]schemas.Hash, n)
		for i := range leaves {
			leaves[i] = schemas.HashOf([]byte{byte(i), byte(i >> 8)})
		}
		i := rapid.IntRange(0, n-1).Draw(t, "leaf")
		root, path := settlement.Tree(leaves, uint64(i))
		if want := naiveRoot(leaves); root != want {
			t.Fatalf("root of %d leaves is %s, want %s", n, root, want)
		}
		if got, ok := settlement.RootOf(leaves[i], uint64(i), uint64(n), path); !ok || got != root {
			t.Fatalf("the path of leaf %d of %d does not lead to the root", i, n)
		}
		other := rapid.IntRange(0, n-1).Draw(t, "other")
		if got, ok := settlement.RootOf(leaves[other], uint64(i), uint64(n), path); other != i && ok && got == root {
			t.Fatal("another leaf has the same path")
		}
		if len(path) > 0 {
			if _, ok := settlement.RootOf(leaves[i], uint64(i), uint64(n), path[1:]); ok {
				t.Fatal("a path that is too short was taken")
			}
		}
		if _, ok := settlement.RootOf(leaves[i], uint64(i), uint64(n), append(path, root)); ok {
			t.Fatal("a path that is too long was taken")
		}
	})
}
