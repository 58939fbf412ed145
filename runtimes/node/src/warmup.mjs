// What Node.js does at the first use of a thing, done before the user's code arrives: its first import, its first call.
import { access } from 'node:fs/promises';

import { execute } from './execution.mjs';

const ROUNDS = 3;

/** Imports a module of each kind, and runs a function a few times as a call would. */
export async function warmUp() {
  await access(new URL('./warmup/common.cjs', import.meta.url));
  await import('./warmup/module.mjs');
  const { default: main } = await import('./warmup/common.cjs');
  for (let round = 0; round < ROUNDS; round += 1) {
    const { body } = await execute(main, { variables: {}, headers: {}, payload: '{}' });
    JSON.parse(body);
  }
}
