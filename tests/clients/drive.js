// Calls methods of an installed Appwrite SDK as its users do: one JSON object a line in, one out.
//
// node drive.js FOLDER PACKAGE '{"endpoint", "project", "key", "jwt", "origin"}'
//
// In:  {"service", "method", "arguments": {by name}}; {} lists what there is. In arguments {"$file": path} stands for
//      a file and {"$query": [method, …values]} for what the SDK's own Query makes.
// Out: {"value"} or {"error": {"message", "code", "type"}}. Bytes become {"$bytes": base64}.
"use strict";
const { createRequire } = require("node:module");
const readline = require("node:readline");

const [folder, name, text] = process.argv.slice(2);
const load = createRequire(`${folder}/package.json`);
const settings = JSON.parse(text);
if (name === "appwrite") require("./browser.js").becomeBrowser(load, settings.origin);
const sdk = load(name);

function connect() {
  const client = new sdk.Client().setEndpoint(settings.endpoint).setProject(settings.project);
  if (settings.key) client.setKey(settings.key);
  if (settings.jwt) client.setJWT(settings.jwt);
  return client;
}

/** Names of a method's parameters as its source has them; newer SDKs take one object instead. */
function parametersOf(method) {
  const list = method.toString().match(/\(([^)]*)\)/)[1];
  return list.split(",").map((part) => part.split("=")[0].trim()).filter(Boolean);
}

function services() {
  const found = {};
  for (const [exported, value] of Object.entries(sdk)) {
    if (typeof value !== "function" || !value.prototype) continue;
    found[exported] = Object.getOwnPropertyNames(value.prototype).filter((method) => method !== "constructor");
  }
  return found;
}

function valueOf(argument) {
  if (Array.isArray(argument)) return argument.map(valueOf);
  if (argument?.$query) {
    const [method, ...values] = argument.$query;
    return sdk.Query[method](...values);
  }
  if (argument?.$file) {
    const { InputFile } = sdk.InputFile ? sdk : load(`${name}/file`);
    return InputFile.fromPath(argument.$file, "code.tar.gz");
  }
  return argument;
}

async function call({ service, method, arguments: given }) {
  const client = connect();
  const wanted = Object.keys(sdk).find((exported) => exported.toLowerCase() === service.toLowerCase());
  const target = wanted === "Client" ? client : new sdk[wanted](client);
  const values = Object.fromEntries(Object.entries(given).map(([key, value]) => [key, valueOf(value)]));
  const parameters = parametersOf(target[method]);
  const byName = parameters[0] === "paramsOrFirst";
  return target[method](...(byName ? [values] : parameters.map((parameter) => values[parameter])));
}

/** What the SDK raises where its caller cannot catch it: old ones upload in a stream that nobody watches. */
function stray() {
  return new Promise((_, reject) => {
    process.removeAllListeners("unhandledRejection");
    process.on("unhandledRejection", reject);
  });
}

async function answer(line) {
  const request = JSON.parse(line);
  if (!request.method) return { value: services() };
  try {
    const value = await Promise.race([call(request), stray()]);
    return { value: value instanceof ArrayBuffer ? { $bytes: Buffer.from(value).toString("base64") } : value };
  } catch (error) {
    return { error: { message: error.message, code: error.code ?? 0, type: error.type ?? "" } };
  }
}

async function main() {
  const out = process.stdout.write.bind(process.stdout);
  console.warn = console.log = console.error; // SDKs print their warnings; the answers' channel is not for them
  for await (const line of readline.createInterface({ input: process.stdin })) {
    out(`${JSON.stringify(await answer(line))}\n`);
  }
}

main();
