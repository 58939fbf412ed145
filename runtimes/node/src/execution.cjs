// One execution: from the call to the envelope that answers it.
'use strict';

const { newSink, withSink } = require('./logs.cjs');

const LOWEST_STATUS = 200;
const HIGHEST_STATUS = 599;

/**
 * Runs the user's function and resolves to {status, body} when it has called res.send or res.json, has thrown, or has
 * left a rejection or an exception behind that nobody caught. The body is the envelope as JSON.
 *
 * A function that returns without an answer may still give one, from a callback: only the caller's timeout ends that.
 */
function execute(main, call) {
  return new Promise((resolve) => {
    const sink = newSink();
    let answered = false;

    // one turn later: what the function prints right after its answer is still part of its logs
    const settle = (status, encoded) => {
      answered = true;
      setImmediate(() => resolve({ status, body: envelope(sink.close(), encoded) }));
    };
    const finish = (status, encoded) => {
      if (answered) sink.writeError('res.send or res.json was called again; the first answer stands.\n');
      else settle(status, encoded);
    };
    const fail = (error) => {
      sink.writeError(`${error?.stack || error}\n`);
      if (!answered) settle(500);
    };

    sink.onFailure = fail;
    withSink(sink, () => {
      try {
        Promise.resolve(main(call, responder(finish))).catch(fail);
      } catch (error) {
        fail(error);
      }
    });
  });
}

/** The `res` of a function. A value is encoded at once, so that later changes to it don't show. */
function responder(finish) {
  const take = (method) => (value, status = 200) => {
    if (!Number.isInteger(status) || status < LOWEST_STATUS || status > HIGHEST_STATUS) {
      throw new RangeError(`res.${method}: the status must be an integer from 200 to 599, not ${String(status)}`);
    }
    finish(status, JSON.stringify(value) ?? '""');
  };
  return { send: take('send'), json: take('json') };
}

/** Returns the envelope as JSON; without a response where there is none. */
function envelope({ stdout, stderr }, encoded) {
  const logs = `"stdout":${JSON.stringify(stdout)},"stderr":${JSON.stringify(stderr)}}`;
  return encoded === undefined ? `{${logs}` : `{"response":${encoded},${logs}`;
}

module.exports = { execute, envelope };
