package cli

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"strings"
)

// bareRows is how many rows one statement carries, the most first, as in the ledger.
var bareRows = [...]int{100, 10, 1}

// table is one of the three that take rows for each receipt.
type table struct {
	columns string
	width   int
	rows    func(dst []any, i int64) []any
}

// bareTables are filled as intake fills them: one entry, three postings and one receipt each.
var bareTables = []table{
	{"entries (id, kind, place, at, ref)", 5, func(dst []any, i int64) []any { return append(dst, i, "job", i, i, nil) }},
	{"postings (account, entry, amount)", 3, func(dst []any, i int64) []any {
		return append(dst, int64(9001), i, int64(-10), int64(9002), i, int64(9), int64(9003), i, int64(1))
	}},
	{
		"receipts (seq, entry, job, tenant, owner, worker, number, model, class, catalogue, multiplier, prompt, cached, completion, reasoning, total, fee, hash, finished)",
		19, func(dst []any, i int64) []any {
			sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
			return append(dst, i, i, sum[:16], int64(9001), int64(9002), int64(1), i, int64(1), "standard", int64(1), int64(10_000),
				int64(1000), int64(0), int64(0), int64(0), int64(10), int64(1), sum[:], i)
		},
	},
}

// statement spells an insert of a number of rows.
func (t table) statement(rows int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?, ", t.width), ", ") + "), "
	return "INSERT INTO " + t.columns + " VALUES " + strings.TrimSuffix(strings.Repeat(row, rows), ", ")
}

// bareInserts fills the tables for a number of receipts. Making the values is part of it, as it is of intake.
func bareInserts(ctx context.Context, db *sql.DB, receipts int) error {
	prepared := make([][len(bareRows)]*sql.Stmt, len(bareTables))
	for i, t := range bareTables {
		for k, n := range bareRows {
			st, err := db.PrepareContext(ctx, t.statement(n))
			if err != nil {
				return err
			}
			defer st.Close()
			prepared[i][k] = st
		}
	}
	var first int64
	if err := db.QueryRowContext(ctx, "SELECT COALESCE(MAX(id), 0) + 1 FROM entries").Scan(&first); err != nil {
		return err
	}
	plain := context.WithoutCancel(ctx)
	for from := 0; from < receipts; from += benchGroup {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for i, t := range bareTables {
			values := make([]any, 0, 20*benchGroup)
			for k := from; k < min(from+benchGroup, receipts); k++ {
				values = t.rows(values, first+int64(k))
			}
			for k, rows := range bareRows {
				for n := rows * t.width; len(values) >= n; values = values[n:] {
					if _, err := tx.StmtContext(plain, prepared[i][k]).ExecContext(plain, values[:n]...); err != nil {
						_ = tx.Rollback()
						return err
					}
				}
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}
