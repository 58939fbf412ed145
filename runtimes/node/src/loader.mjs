// From the start signal to the user's function.
import { constants, openSync, statSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { Socket } from 'node:net';
import { resolve, sep } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

import { LogSink, keepForFirstExecution, withSink } from './logs.mjs';

const POLL_MILLISECONDS = 5;
const DEFAULT_ENTRYPOINT = 'index.js';

/** Waits for the FIFO to exist, reads it to its end and returns the start document. */
export async function receiveStart(path) {
  for (;;) {
    try {
      if (statSync(path).isFIFO()) break;
    } catch (error) {
      if (error.code !== 'ENOENT') throw error;
    }
    await pause(POLL_MILLISECONDS);
  }
  return JSON.parse(await readFifo(path));
}

/** Reads by epoll: a thread blocked in open(2) would keep the process from ending. */
function readFifo(path) {
  const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const socket = new Socket({ fd: descriptor, readable: true, writable: false });
  return new Promise((fulfil, reject) => {
    const pieces = [];
    socket.on('data', (piece) => pieces.push(piece));
    socket.on('end', () => fulfil(Buffer.concat(pieces).toString('utf8')));
    socket.on('error', reject);
  });
}

/** Imports the code of a start document; returns {key, main} or, where that fails, {key, failure: {stdout, stderr}}. */
export async function load(start) {
  const sink = new LogSink();
  try {
    const main = await withSink(sink, () => importMain(start));
    keepForFirstExecution(sink);
    return { key: start.key, main };
  } catch (error) {
    sink.writeError(`${explain(error, start)}\n`);
    return { key: start.key, failure: sink.close() };
  }
}

async function importMain({ entrypoint, env, code }) {
  for (const [name, value] of Object.entries(env)) process.env[name] = value;
  const path = resolve(code, entrypoint || DEFAULT_ENTRYPOINT);
  if (!path.startsWith(code + sep)) throw new Error(`The entrypoint '${entrypoint}' is outside of the code.`);
  await access(path); // its error is about the entrypoint, the importer's may be about any module
  process.chdir(code);
  const module = await import(pathToFileURL(path));
  const main = findFunction(module);
  if (main === undefined) {
    throw new Error(`'${entrypoint}' exports no function: use module.exports = async (req, res) => {…} or export default.`);
  }
  return main;
}

/** Returns module.exports, exports.default or export default, whichever is a function. */
function findFunction(module) {
  return [module.default, module.default?.default].find((value) => typeof value === 'function');
}

function explain(error, { entrypoint }) {
  if (error?.code === 'ENOENT' && error.syscall === 'access') {
    return `The entrypoint '${entrypoint || DEFAULT_ENTRYPOINT}' is not in the code.`;
  }
  return error?.stack || String(error);
}
