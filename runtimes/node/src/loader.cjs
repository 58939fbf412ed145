// From the start signal to the user's function.
'use strict';

const { accessSync, constants, openSync, readFileSync, statSync } = require('node:fs');
const { Socket } = require('node:net');
const { extname, resolve, sep } = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');
const { pathToFileURL } = require('node:url');
const { compileFunction } = require('node:vm');

const { LogSink, keepForFirstExecution, withSink } = require('./logs.cjs');

const POLL_MILLISECONDS = 5;
const DEFAULT_ENTRYPOINT = 'index.js';
const REQUIRED = new Set(['.js', '.cjs']);
/** What require says of a module that only import can load, without running it. */
const IMPORT_ONLY = new Set(['ERR_REQUIRE_ESM', 'ERR_REQUIRE_ASYNC_MODULE']);

/** Waits for the FIFO to exist, reads it to its end and returns the start document. */
async function receiveStart(path) {
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
async function load(start) {
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
  accessSync(path); // its error is about the entrypoint, the importer's may be about any module
  process.chdir(code);
  const main = await importFunction(path);
  if (main === undefined) {
    throw new Error(`'${entrypoint}' exports no function: use module.exports = async (req, res) => {…} or export default.`);
  }
  return main;
}

/** Imports a module; resolves to module.exports, exports.default or export default, whichever is a function. */
async function importFunction(path) {
  const module = await importModule(path);
  return [module, module?.default, module?.default?.default].find((value) => typeof value === 'function');
}

/** By require where that can be: of a CommonJS module it takes half the time that import does. */
async function importModule(path) {
  if (REQUIRED.has(extname(path))) {
    try {
      return require(path);
    } catch (error) {
      if (!IMPORT_ONLY.has(error?.code) || isCommonJs(path)) throw error;
    }
  }
  return import(pathToFileURL(path));
}

/** Tells whether a file can be CommonJS: then it was run, and a module it requires is what only import can load. */
function isCommonJs(path) {
  try {
    compileFunction(readFileSync(path, 'utf8'), ['exports', 'require', 'module', '__filename', '__dirname']);
    return true;
  } catch {
    return false;
  }
}

function explain(error, { entrypoint }) {
  if (error?.code === 'ENOENT' && error.syscall === 'access') {
    return `The entrypoint '${entrypoint || DEFAULT_ENTRYPOINT}' is not in the code.`;
  }
  // as the code's author sees it: without the files of this server
  return String(error?.stack || error).split('\n').filter((line) => !line.includes(__dirname)).join('\n');
}

module.exports = { receiveStart, load, importFunction };
