// Command telegram-bot is an example of a service built on Cocoon's SDK: a Telegram bot that summarises or translates what
// was said in a chat, with every message sealed on the way to an attested enclave.
//
// It remembers the last messages of each chat in memory and obeys two commands:
//
//	/summary          a summary of what was said since the last one
//	/translate fr     the last message, or the one replied to, in another language
//
// Run it beside a network, for example `cocoon up`:
//
//	TELEGRAM_TOKEN=123:abc go run ./deploy/examples/telegram-bot -model cocoon-tiny -data ~/.local/share/cocoon
//
// What it shows of the SDK: jobs with an idempotency key made of chat and message (Telegram delivers an update again
// when it was not confirmed, and the answer is then the same job: asked twice, paid once), long threads cut into pieces
// by the package slice, errors that tell whether to try again, and a record in SQLite that survives a restart.
//
// The bot itself sees the chat in the clear, as every bot does; Telegram does too. What Cocoon keeps to itself is what is
// asked of the model and what it answers.
package main
