// Package reference is the program that the figures of the pipeline are held against: it moves messages of given sizes
// through the real streams, published, pulled, answered by compare-and-set and acknowledged with confirmation, and does
// nothing else.
//
// Make one with [New] from the [Shape] of a real job, and call [Program.Run]. It uses the same streams, the same consumer
// settings, the same window of publishes and the same number of jobs at work as what it is compared with, so that the
// difference is what that other program does beside moving messages.
//
// [Steps] adds work at the points where the network does it: with the bare cryptographic calls of a job the program
// becomes the floor below which no implementation of the same protocol can be.
//
// [Clock] takes the times of paced runs, for this program and for others beside it.
//
// It is for benchmarks only: it trusts everything, opens nothing and loses what is under way when it is stopped.
package reference
