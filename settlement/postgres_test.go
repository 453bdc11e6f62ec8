package settlement_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/cocoon-network/cocoon/settlement/ledgertest"
)

// servers holds the PostgreSQL server of a test, by the test's name, for the tests that it runs below itself.
var servers sync.Map

// database is the dsn of a fresh ledger for a test: a SQLite file, or a database on the server of the test above it.
func database(t testing.TB, file string) string {
	t.Helper()
	parent, _, _ := strings.Cut(t.Name(), "/")
	if s, ok := servers.Load(parent); ok {
		return s.(*ledgertest.Server).Database(t)
	}
	return file
}

// TestOnPostgres runs the tests of money once more with the ledger in PostgreSQL.
func TestOnPostgres(t *testing.T) {
	t.Parallel()
	servers.Store(t.Name(), ledgertest.Postgres(t))
	for name, test := range map[string]func(*testing.T){
		"PayoutsFromReceipts":     TestPayoutsFromReceipts,
		"ThresholdAgeAndMinimum":  TestThresholdAgeAndMinimum,
		"ForceAndStop":            TestForceAndStop,
		"ManyBatchesAtOnce":       TestManyBatchesAtOnce,
		"FundsAndFloor":           TestFundsAndFloor,
		"DroppedBatch":            TestDroppedBatchIsOwedAgain,
		"SkippedItems":            TestSkippedItemsAreOwedAgain,
		"ExpiredBatch":            TestExpiredBatchIsIssuedAgain,
		"Bounce":                  TestBounceIsOwedAgainAndFlagged,
		"UnknownPayment":          TestUnknownPaymentStops,
		"Withdrawals":             TestWithdrawalsArePaid,
		"Gas":                     TestGasIsBooked,
		"Deposits":                TestDepositsAreCreditedByMemo,
		"Suspense":                TestSuspenseIsDecided,
		"TreasuryTakesDeposits":   TestTreasuryTakesDeposits,
		"GasOfArrivals":           TestGasOfArrivals,
		"DepositsSurviveFaults":   TestDepositsSurviveFaults,
		"CreditIsPublished":       TestCreditIsPublishedWhenItChanges,
		"IntakeRuns":              TestIntakeRuns,
		"ReconcileNamesEverybody": TestReconcileNamesDifferences,
	} {
		t.Run(name, test)
	}
}
