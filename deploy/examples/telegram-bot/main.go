package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cocoon-network/cocoon/enclave"
	"github.com/cocoon-network/cocoon/producers"
	"github.com/cocoon-network/cocoon/producers/sqlite"
	"github.com/cocoon-network/cocoon/schemas"
	"github.com/cocoon-network/cocoon/streams"
)

// settings are the flags.
type settings struct {
	data, nats, model, api string
	size                   int
}

func main() {
	var s settings
	flag.StringVar(&s.data, "data", "", "folder with trust.json and tenant-local.json, such as the data folder of `cocoon up`")
	flag.StringVar(&s.nats, "nats", "nats://127.0.0.1:4222", "url of the network")
	flag.StringVar(&s.model, "model", "cocoon-tiny", "model")
	flag.StringVar(&s.api, "api", "https://api.telegram.org", "url of Telegram's Bot API")
	flag.IntVar(&s.size, "size", 1500, "the largest piece of a thread in bytes; a model with a long context takes more")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s, os.Getenv("TELEGRAM_TOKEN")); err != nil {
		fmt.Fprintln(os.Stderr, "telegram-bot:", err)
		os.Exit(1)
	}
}

// run connects and answers until ctx ends.
func run(ctx context.Context, s settings, token string) (err error) {
	if token == "" {
		return errors.New("TELEGRAM_TOKEN is not set")
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	o := producers.Options{Logger: log}
	if o.Trust, err = read(filepath.Join(s.data, "trust.json"), schemas.ParseTrust); err != nil {
		return err
	}
	if o.Tenant, err = read(filepath.Join(s.data, "tenant-local.json"), enclave.ParseTenant); err != nil {
		return err
	}
	record, err := sqlite.Open(ctx, filepath.Join(s.data, "telegram-bot.db"))
	if err != nil {
		return err
	}
	o.Record = record
	client, err := producers.Dial(ctx, streams.Config{URL: s.nats, Name: "telegram-bot", Logger: log}, o)
	if err != nil {
		return errors.Join(err, record.Close())
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, client.Close(end), record.Close())
	}()
	log.Info("answering", "model", s.model, "environment", client.Environment())
	b := &bot{
		api: &telegram{base: s.api, token: token, http: &http.Client{Timeout: 2 * pollSeconds * time.Second}}, client: client, model: s.model,
		size: s.size, log: log, threads: map[int64][]message{},
	}
	return b.run(ctx)
}

// read reads and parses a file.
func read[T any](path string, parse func([]byte) (T, error)) (v T, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return v, fmt.Errorf("set -data to the data folder of `cocoon up`: %w", err)
	}
	return parse(b)
}
