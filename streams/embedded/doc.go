// Package embedded runs a NATS server with JetStream inside this process: the message broker of `cocoon up`, of the demo
// and of tests.
//
// Start with [Start], connect with streams.Config{InProcess: server.InProcess()} from this process or with [Server.URL]
// from others, and end with [Server.Close]. The state lies in one folder; a second start on it continues where the
// first stopped, also after kill -9.
//
// What is promised: by default an acknowledged write survives kill -9 of the process, because the kernel has it; with
// [Options.Sync] it survives a power loss, at a tenth of the speed. The server listens on the loopback address unless
// it is told otherwise, and it is the one place in this program that does.
//
// What it refuses, with an error that names the cause: a port that is taken, a folder that cannot be written or that
// another server uses, state that cannot be read. It never deletes state to come up.
package embedded
