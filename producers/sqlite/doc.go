// Package sqlite keeps the job record of a producer ([producers.Record]) in one SQLite file.
//
// Use [Open] where jobs must survive the process and where several processes of one tenant work with the same record,
// such as the cocoon command line: one process submits, another looks. For a single process with few jobs the
// dependency-free [producers.OpenFileRecord] is enough; for one that need not survive, memory.
//
// Every write is durable when it returns: the file is in WAL mode with synchronous=FULL. Writes that arrive together
// share one commit, so a busy producer pays one disk flush for many jobs. A file that was made by a newer version is
// refused, and so is one that is not a record.
//
// The record holds no plaintext: see [producers.Entry].
package sqlite
