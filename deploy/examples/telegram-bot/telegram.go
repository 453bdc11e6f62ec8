package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of Telegram's Bot API.
const (
	// maxText bounds a message in characters.
	maxText = 4096
	// maxResponse bounds what is read of an answer.
	maxResponse = 8 << 20
	// pollSeconds is how long one request waits for updates.
	pollSeconds = 30
)

// telegram calls the Bot API.
type telegram struct {
	// base is https://api.telegram.org; tests put a server of their own here.
	base  string
	token string
	http  *http.Client
}

// update is something that happened: here, a message that was sent.
type update struct {
	ID      int64    `json:"update_id"`
	Message *message `json:"message"`
}

// message is a message in a chat.
type message struct {
	ID   int64 `json:"message_id"`
	From struct {
		Name string `json:"first_name"`
		Bot  bool   `json:"is_bot"`
	} `json:"from"`
	Chat struct {
		ID int64 `json:"id"`
	} `json:"chat"`
	Text    string   `json:"text"`
	ReplyTo *message `json:"reply_to_message"`
}

// apiError is a refusal of the Bot API.
type apiError struct {
	Code        int
	Description string
	RetryAfter  time.Duration
}

// Error is the refusal in Telegram's words. The token, which is part of every url, is not in it.
func (e *apiError) Error() string { return fmt.Sprintf("telegram: %d %s", e.Code, e.Description) }

// call calls a method and decodes its result.
func (t *telegram) call(ctx context.Context, method string, params, result any) error {
	body, err := json.Marshal(params)
	if err != nil {
		return fmt.Errorf("telegram: encode %s: %w", method, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.base+"/bot"+t.token+"/"+method, bytes.NewReader(body))
	if err != nil {
		return errors.New("telegram: the address is not a url")
	}
	r.Header.Set("Content-Type", "application/json")
	w, err := t.http.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) { // its text has the url, and the url has the token
			err = wrapped.Err
		}
		return fmt.Errorf("telegram: %s: %w", method, err)
	}
	defer w.Body.Close()
	var answer struct {
		OK          bool            `json:"ok"`
		Result      json.RawMessage `json:"result"`
		Code        int             `json:"error_code"`
		Description string          `json:"description"`
		Parameters  struct {
			RetryAfter int `json:"retry_after"`
		} `json:"parameters"`
	}
	if err := json.NewDecoder(io.LimitReader(w.Body, maxResponse)).Decode(&answer); err != nil {
		return fmt.Errorf("telegram: %s: status %d: %w", method, w.StatusCode, err)
	}
	if !answer.OK {
		return &apiError{answer.Code, answer.Description, time.Duration(answer.Parameters.RetryAfter) * time.Second}
	}
	return json.Unmarshal(answer.Result, result)
}

// updates waits for what happened after an update.
func (t *telegram) updates(ctx context.Context, after int64) (list []update, err error) {
	err = t.call(ctx, "getUpdates", map[string]any{"offset": after, "timeout": pollSeconds, "allowed_updates": []string{"message"}}, &list)
	return list, err
}

// send answers a message, in several parts when the text is long.
func (t *telegram) send(ctx context.Context, chat, replyTo int64, text string) error {
	for _, part := range parts(text, maxText) {
		var sent message
		err := t.call(ctx, "sendMessage", map[string]any{
			"chat_id": chat, "text": part, "reply_parameters": map[string]any{"message_id": replyTo, "allow_sending_without_reply": true},
		}, &sent)
		var refused *apiError
		if errors.As(err, &refused) && refused.RetryAfter > 0 && wait(ctx, refused.RetryAfter) {
			err = t.call(ctx, "sendMessage", map[string]any{"chat_id": chat, "text": part}, &sent)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parts cuts a text into parts of at most limit characters, at line ends where there are some.
func parts(text string, limit int) (list []string) {
	for utf8.RuneCountInString(text) > limit {
		cut := 0
		for range limit {
			_, size := utf8.DecodeRuneInString(text[cut:])
			cut += size
		}
		if at := strings.LastIndexByte(text[:cut], '\n'); at > cut/2 {
			cut = at + 1
		}
		list, text = append(list, text[:cut]), text[cut:]
	}
	if strings.TrimSpace(text) == "" && len(list) > 0 {
		return list
	}
	return append(list, text)
}

// wait waits and reports whether the context still lives.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
