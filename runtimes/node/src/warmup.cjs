// What Node.js does at the first use of a thing, done before the user's code arrives: its first import, its first call.
'use strict';

const { request } = require('node:http');
const { join } = require('node:path');

const { importFunction } = require('./loader.cjs');

const ROUNDS = 3;
const KEY = 'warm';
const WITHIN_MILLISECONDS = 2000;

/**
 * Imports a module of each kind, and calls a function a few times by HTTP, as the dispatcher does.
 *
 * @param answering makes an HTTP server of a function and the key that calls of it carry
 * @throws Error where no server can listen, or a call has no answer in time
 */
async function warmUp(answering) {
  await import('./warmup/module.mjs');
  const main = await importFunction(join(__dirname, 'warmup', 'common.cjs'));
  const server = answering(main, KEY);
  try {
    await listening(server);
    for (let round = 0; round < ROUNDS; round += 1) await call(server.address().port);
  } finally {
    server.close();
  }
}

function listening(server) {
  return new Promise((resolve, reject) => {
    server.once('error', reject).listen(0, '127.0.0.1', resolve);
  });
}

function call(port) {
  const headers = { 'x-internal-challenge': KEY };
  const options = { host: '127.0.0.1', port, method: 'POST', headers, agent: false, timeout: WITHIN_MILLISECONDS };
  return new Promise((resolve, reject) => {
    const calling = request(options, (response) => {
      if (response.statusCode !== 200) reject(new Error(`an answer with status ${response.statusCode}`));
      response.resume().on('end', resolve).on('error', reject);
    });
    calling.on('timeout', () => calling.destroy(new Error(`no answer within ${WITHIN_MILLISECONDS} ms`)));
    calling.on('error', reject);
    calling.end(JSON.stringify({ variables: {}, headers: {}, payload: '{}' }));
  });
}

module.exports = { warmUp };
