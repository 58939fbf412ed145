// HTTP server of the Node.js runtime: open-runtimes protocol v2, up before the user's code arrives.
//
// One process runs many executions at once. Requests that come before the code wait for it; a load that failed answers
// every one of them with its trace.
//
// All of it is CommonJS: a process whose own modules are not starts 10 ms later.
'use strict';

const { createHash, timingSafeEqual } = require('node:crypto');
const { existsSync } = require('node:fs');
const { createServer } = require('node:http');

const { envelope, execute } = require('./execution.cjs');
const { load, receiveStart } = require('./loader.cjs');
const { installCapture, outsideExecution } = require('./logs.cjs');
const { warmUp } = require('./warmup.cjs');

const PORT = Number(process.env.APPFN_RUNTIME_PORT || 3000);
const FOLDER = process.env.APPFN_DIR || '/appfn';
const MAX_BODY = 32 * 1024 * 1024;
const BODILESS = new Set([204, 304]);
/** Where a dispatcher that takes over the pod asks how many executions run, their callers gone or not. */
const RUNNING_PATH = '/appfn/running';

let running = 0;
let executing = 0;
let stopping = false;
/** Resolves to {keyDigest, main} or {keyDigest, failure}. */
let loaded;

function digest(text) {
  return createHash('sha256').update(text).digest();
}

/** Answers with a JSON text; statuses that may not have a body go without. */
function answer(response, status, json) {
  if (BODILESS.has(status)) {
    response.writeHead(status).end();
    return;
  }
  const body = Buffer.from(json);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': body.length });
  response.end(body);
}

function refuse(response, status, message) {
  answer(response, status, JSON.stringify({ stderr: message }));
}

/** Reads a request's body; resolves to undefined where it is too large or cut off. */
function readBody(request) {
  return new Promise((resolve) => {
    const pieces = [];
    let size = 0;
    request.on('data', (piece) => {
      size += piece.length;
      if (size > MAX_BODY) resolve(undefined);
      else pieces.push(piece);
    });
    request.on('end', () => resolve(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces)));
    request.on('close', () => resolve(undefined));
  });
}

/** Parses what a call is about; throws an Error whose message tells the caller what is wrong. */
function parseCall(body) {
  let document;
  try {
    document = JSON.parse(body.toString('utf8') || '{}');
  } catch (error) {
    throw new Error(`The request body is not JSON: ${error.message}`);
  }
  if (document === null || typeof document !== 'object' || Array.isArray(document)) {
    throw new Error('The request body is not a JSON object.');
  }
  return {
    variables: asObject(document.variables),
    headers: asObject(document.headers),
    payload: asText(document.payload),
  };
}

function asObject(value) {
  // PHP encodes an empty object as []
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {};
}

function asText(value) {
  if (typeof value === 'string') return value;
  return value === undefined || value === null ? '' : JSON.stringify(value);
}

async function serve(request, response, loaded) {
  const reading = readBody(request);
  const code = await loaded();
  if (!timingSafeEqual(digest(request.headers['x-internal-challenge'] || ''), code.keyDigest)) {
    return refuse(response, 500, 'Unauthorized');
  }
  if (request.url === RUNNING_PATH) return answer(response, 200, JSON.stringify({ running: executing }));
  if (request.method !== 'POST') return refuse(response, 405, 'Only POST is answered.');
  const body = await reading;
  if (body === undefined) return refuse(response, 413, `The request is larger than ${MAX_BODY} bytes.`);
  let call;
  try {
    call = parseCall(body);
  } catch (error) {
    return refuse(response, 400, error.message);
  }
  if (code.failure) return answer(response, 500, envelope(code.failure));
  executing += 1;
  const { status, body: json } = await execute(code.main, call).finally(() => { executing -= 1; });
  return answer(response, status, json);
}

/** Makes a server that answers by the code `loaded` resolves to, {keyDigest, main} or {keyDigest, failure}. */
function serverOf(loaded) {
  const server = createServer(async (request, response) => {
    running += 1;
    response.on('close', () => {
      running -= 1;
      if (stopping && running === 0) process.exit(0);
    });
    try {
      await serve(request, response, loaded);
    } catch (error) {
      outsideExecution(`appfn runtime: ${error.stack}\n`);
      if (!response.headersSent) refuse(response, 500, 'The runtime failed to serve this call.');
    }
  });
  // The dispatcher keeps connections open and decides when they end: a server that closes an idle one races its next call.
  server.keepAliveTimeout = 0;
  server.requestTimeout = 0;
  return server;
}

/** Warms up with code of our own; a pod where that fails can serve all the same. */
async function prepare() {
  const answering = (main, key) => serverOf(async () => ({ keyDigest: digest(key), main }));
  await warmUp(answering).catch((error) => outsideExecution(`appfn runtime: warming up failed: ${error.stack}\n`));
}

const server = serverOf(() => loaded);
process.on('SIGTERM', () => {
  stopping = true;
  server.close();
  if (running === 0) process.exit(0);
});

installCapture();
server.listen(PORT, '0.0.0.0');
// To come to the FIFO is to say that the code may come: all that can be done before is done. But code that is there already
// is waited for, in a pod that was made for a call.
loaded = (existsSync(`${FOLDER}/code`) ? Promise.resolve() : prepare())
  .then(() => receiveStart(`${FOLDER}/start`))
  .then(load)
  .then((code) => ({ ...code, keyDigest: digest(code.key) }))
  .catch((error) => {
    outsideExecution(`The start signal cannot be read: ${error.stack}\n`);
    process.exit(1);
  });
