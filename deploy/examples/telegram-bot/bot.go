package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/producers/slice"
	"github.com/cocoon-network/cocoon/schemas"
)

// Limits of what the bot remembers and does.
const (
	// maxThread bounds the messages remembered of a chat, maxChats the chats.
	maxThread = 500
	maxChats  = 10_000
	// retryPause is the pause after Telegram could not be reached.
	retryPause = 2 * time.Second
	// answerTokens bounds an answer.
	answerTokens = 256
)

// bot answers commands.
type bot struct {
	api    *telegram
	client slice.Client
	model  string
	// size is the largest piece of a thread that one request has.
	size int
	log  *slog.Logger
	// threads are the messages of each chat since its last summary.
	threads map[int64][]message
}

// run answers until ctx ends.
func (b *bot) run(ctx context.Context) error {
	for next := int64(0); ; {
		list, err := b.api.updates(ctx, next)
		if ctx.Err() != nil {
			return nil
		}
		var refused *apiError
		if errors.As(err, &refused) && (refused.Code == 401 || refused.Code == 404) {
			return fmt.Errorf("the token is refused: %w", err)
		}
		if err != nil {
			b.log.Warn("no updates", "error", err)
			if !wait(ctx, retryPause) {
				return nil
			}
			continue
		}
		for _, u := range list {
			// Asking for what comes after an update confirms it. One that was not answered because the process died is
			// delivered again, and is the same job then.
			if u.Message != nil {
				b.handle(ctx, u.Message)
			}
			next = u.ID + 1
		}
	}
}

// handle remembers a message, or obeys it.
func (b *bot) handle(ctx context.Context, m *message) {
	if m.From.Bot || m.Text == "" {
		return
	}
	command, rest, _ := strings.Cut(m.Text, " ")
	command, _, _ = strings.Cut(command, "@") // in groups commands name their bot
	var err error
	switch command {
	case "/summary":
		err = b.summary(ctx, m)
	case "/translate":
		err = b.translate(ctx, m, strings.TrimSpace(rest))
	default:
		b.remember(m)
		return
	}
	if err != nil && ctx.Err() == nil {
		b.log.Warn("not answered", "chat", m.Chat.ID, "error", err)
		if err := b.api.send(ctx, m.Chat.ID, m.ID, excuse(err)); err != nil {
			b.log.Warn("not sent", "chat", m.Chat.ID, "error", err)
		}
	}
}

// remember adds a message to its chat's thread.
func (b *bot) remember(m *message) {
	thread := b.threads[m.Chat.ID]
	if thread == nil && len(b.threads) >= maxChats {
		for chat := range b.threads { // some chat is forgotten; which one does not matter
			delete(b.threads, chat)
			break
		}
	}
	if len(thread) == maxThread {
		thread = thread[1:]
	}
	b.threads[m.Chat.ID] = append(thread, *m)
}

// excuse tells a user what went wrong, and what may help.
func excuse(err error) string {
	switch schemas.KindOf(err) {
	case schemas.KindCredit:
		return "The bot has run out of funds."
	case schemas.KindPolicy, schemas.KindAttestation:
		return "The network could not prove that it is trustworthy, so nothing was sent to it."
	}
	if schemas.Retriable(err) {
		return "The network is busy. Please try again in a moment."
	}
	return "That did not work."
}

// summary answers with a summary of the chat's thread. Long threads are cut, summarised piece by piece and put together.
func (b *bot) summary(ctx context.Context, m *message) error {
	thread := b.threads[m.Chat.ID]
	if len(thread) == 0 {
		return b.api.send(ctx, m.Chat.ID, m.ID, "Nothing was said since the last summary.")
	}
	var text strings.Builder
	for _, said := range thread {
		fmt.Fprintf(&text, "%s: %s\n", said.From.Name, said.Text)
	}
	result, err := slice.Run(ctx, b.client, text.String(), slice.Options{
		Model: b.model, Map: "Summarise this part of a chat in a few sentences. Keep names.", Size: b.size, MaxTokens: answerTokens,
		Reduce: "Put these summaries of one chat together, in a few sentences.", Key: key(m),
	})
	if err != nil {
		return err
	}
	if err := b.api.send(ctx, m.Chat.ID, m.ID, result.Text); err != nil {
		return err
	}
	b.log.Info("summary", "chat", m.Chat.ID, "messages", len(thread), "jobs", result.Jobs, "cost", result.Cost.String())
	delete(b.threads, m.Chat.ID)
	return nil
}

// translate answers with a message in another language.
func (b *bot) translate(ctx context.Context, m *message, language string) error {
	thread := b.threads[m.Chat.ID]
	said := m.ReplyTo
	if said == nil && len(thread) > 0 {
		said = &thread[len(thread)-1]
	}
	if said == nil || said.Text == "" || language == "" || len(language) > 32 {
		return b.api.send(ctx, m.Chat.ID, m.ID, "Reply to a message with /translate and a language, for example: /translate fr")
	}
	result, err := slice.Run(ctx, b.client, said.Text, slice.Options{
		Model: b.model, Map: "Translate into " + language + ". Answer with the translation only.", Size: b.size, MaxTokens: answerTokens, Key: key(m),
	})
	if err != nil {
		return err
	}
	return b.api.send(ctx, m.Chat.ID, m.ID, result.Text)
}

// key names the work for a command: the same command, delivered again, is the same work.
func key(m *message) string {
	return "telegram/" + strconv.FormatInt(m.Chat.ID, 10) + "/" + strconv.FormatInt(m.ID, 10)
}
