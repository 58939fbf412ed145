// Logs per execution: whatever code prints, directly or after an await, in a timer or a callback, belongs to the
// execution whose asynchronous context it runs in. Output from outside of any goes to the container's own log.
'use strict';

const { AsyncLocalStorage } = require('node:async_hooks');
const { format, inspect } = require('node:util');

const MAX_OUTPUT = 1_000_000;
const CUT = '\n[the output is longer than 1000000 bytes and cut here]';

const context = new AsyncLocalStorage();
const writeOut = process.stdout.write.bind(process.stdout);
const writeErr = process.stderr.write.bind(process.stderr);
let first;

/** One stream of one execution, with a bound on its size. */
class Output {
  #pieces = [];
  #room = MAX_OUTPUT - CUT.length;
  #cut = false;

  write(text) {
    if (this.#cut) return;
    const size = Buffer.byteLength(text);
    if (size <= this.#room) {
      this.#pieces.push(text);
      this.#room -= size;
      return;
    }
    // decoding drops the half of a character that the cut may leave
    this.#pieces.push(Buffer.from(text).subarray(0, this.#room).toString('utf8').replace(/\uFFFD$/, ''), CUT);
    this.#cut = true;
  }

  text() {
    const text = this.#pieces.join('');
    return text.endsWith('\n') ? text.slice(0, -1) : text;
  }
}

/** The two streams of one execution. Once closed, what is still written goes to the container's log. */
class LogSink {
  #out = new Output();
  #err = new Output();
  #open = true;
  /** Called with an error that nobody catches in this context. */
  onFailure;

  writeOutput(text) {
    if (this.#open) this.#out.write(text);
    else writeOut(text);
  }

  writeError(text) {
    if (this.#open) this.#err.write(text);
    else writeErr(text);
  }

  /** Takes over what another sink holds. */
  adopt(other) {
    const { stdout, stderr } = other.close();
    if (stdout) this.#out.write(`${stdout}\n`);
    if (stderr) this.#err.write(`${stderr}\n`);
  }

  close() {
    this.#open = false;
    return { stdout: this.#out.text(), stderr: this.#err.text() };
  }
}

/** Runs a function in the context of a sink. */
function withSink(sink, run) {
  return context.run(sink, run);
}

/** What a module prints while it is loaded shows in its first execution, as it does with v2 images. */
function keepForFirstExecution(sink) {
  first = sink;
}

/** Returns the sink of a new execution. */
function newSink() {
  const sink = new LogSink();
  if (first) {
    sink.adopt(first);
    first = undefined;
  }
  return sink;
}

/** Writes to the container's log, whatever the context. */
function outsideExecution(text) {
  writeErr(text);
}

/** Formats arguments as v2 images do: joined by spaces, objects as JSON; what JSON can't say as Node.js would print it. */
function line(values) {
  if (typeof values[0] === 'string' && values.length > 1 && values[0].includes('%')) return `${format(...values)}\n`;
  return `${values.map(show).join(' ')}\n`;
}

function show(value) {
  if (value instanceof Error) return value.stack || String(value);
  if (value === null || typeof value !== 'object' || value instanceof Map || value instanceof Set) {
    return typeof value === 'string' ? value : inspect(value);
  }
  try {
    return JSON.stringify(value);
  } catch {
    return inspect(value); // circular, or with a BigInt
  }
}

function capture(stream, original, method) {
  stream.write = (chunk, encoding, callback) => {
    const sink = context.getStore();
    if (sink === undefined) return original(chunk, encoding, callback);
    sink[method](typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8'));
    const done = typeof encoding === 'function' ? encoding : callback;
    if (done) queueMicrotask(done);
    return true;
  };
}

function fail(error) {
  const sink = context.getStore();
  if (sink?.onFailure) sink.onFailure(error);
  else writeErr(`Uncaught outside of any execution: ${error?.stack || error}\n`);
}

/** Redirects console, process.stdout, process.stderr and uncaught errors. */
function installCapture() {
  capture(process.stdout, writeOut, 'writeOutput');
  capture(process.stderr, writeErr, 'writeError');
  for (const name of ['log', 'info', 'debug']) console[name] = (...values) => void process.stdout.write(line(values));
  for (const name of ['warn', 'error']) console[name] = (...values) => void process.stderr.write(line(values));
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
}

module.exports = { LogSink, withSink, keepForFirstExecution, newSink, outsideExecution, installCapture };
