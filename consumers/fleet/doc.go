// Package fleet runs the workers of one host: as many for each model as its backlog asks for, within the bounds that the
// operators wrote into the FLEET bucket, down to none.
//
// Make a [Host] with [New] and give it a function that runs one worker until its context ends; everything that a worker
// needs (an engine, a session, a GPU to itself) is that function's business. [Host.Run] then looks every few seconds at
// what waits, what is held and what other hosts offer, and starts and stops workers.
//
// How it decides ([Demand.Want] and the scaler):
//
//   - up at once, a few at a time: jobs wait for nothing else;
//   - down one at a time, and only after fewer workers have been enough for a while, because a worker that starts loads a
//     model; the last one is kept longer still (scale to zero);
//   - new bounds hold at once, in both directions;
//   - jobs that other hosts have slots for are left to them;
//   - without news (control is away) the number of workers stays as it is, within the bounds that were last seen.
//
// A worker is stopped by ending its context: it takes no further jobs and ends when those it holds have ended. While it
// drains it no longer counts. A worker that ends by itself with an error is started again, later from time to time.
package fleet
