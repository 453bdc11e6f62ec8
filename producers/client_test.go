package producers_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/producerstest"
	"github.com/cocoon-network/cocoon/schemas"
)

// patience bounds a test's waits.
func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), producerstest.Wait)
	t.Cleanup(cancel)
	return ctx
}

func TestDo(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	w, _ := n.Work(t, producerstest.Echo)
	c := n.Client(t)
	a, err := c.Do(patience(t), producers.Job{Body: producerstest.Ask("hello", "")})
	if err != nil {
		t.Fatal(err)
	}
	if a.Text() != producerstest.Say("hello") || a.Status != schemas.Succeeded || a.HTTP != 200 || a.Usage != producerstest.Usage {
		t.Errorf("answer = %+v", a)
	}
	charge, err := n.Catalogue.Cost(producerstest.Model, producerstest.Usage, schemas.One)
	if err != nil || a.Charge != charge || charge.Total == 0 {
		t.Errorf("charge = %+v, want %+v, %v", a.Charge, charge, err)
	}
	if !a.GrantVerified || a.Environment != schemas.Simulated || a.Attempt != 1 || a.Receipt == "" || a.Submitted.IsZero() {
		t.Errorf("answer = %+v", a)
	}
	if w.Runs() != 1 {
		t.Errorf("ran %d times", w.Runs())
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	n.Work(t, producerstest.Echo)
	c := n.Client(t)
	text, events := "", 0
	var answer *producers.Answer
	for e, err := range c.Stream(patience(t), producers.Job{Body: producerstest.Ask("a b c d", `,"stream":true`)}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Answer != nil {
			answer = e.Answer
			continue
		}
		events++
		text += delta(t, e.Data)
	}
	if answer == nil || text != answer.Text() || text != producerstest.Say("a b c d") || events < 2 {
		t.Errorf("text %q in %d events, answer %+v", text, events, answer)
	}
}

func TestFailuresAreTyped(t *testing.T) {
	t.Parallel()
	n := producerstest.New(t)
	n.Work(t, func(context.Context, *schemas.Request, func([]byte)) schemas.Result {
		return schemas.Failure(schemas.FieldError("messages[0].content", "is not to my taste"))
	})
	c := n.Client(t)
	_, err := c.Do(patience(t), producers.Job{Body: producerstest.Ask("hello", "")})
	var e *schemas.Error
	if !errors.As(err, &e) || e.Kind != schemas.KindInvalid || e.Field != "messages[0].content" || schemas.Retriable(err) {
		t.Errorf("Do = %v", err)
	}
	start := time.Now()
	_, err = c.Do(patience(t), producers.Job{Body: []byte(`{"model":"nobody"}`)})
	if !errors.Is(err, schemas.KindUnknownModel) || time.Since(start) > 5*time.Second {
		t.Errorf("Do with an unknown model = %v after %v", err, time.Since(start))
	}
}
