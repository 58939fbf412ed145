// What a browser gives the web SDK and Node does not: a window, storage, and a fetch that keeps to CORS.
"use strict";

const SIMPLE = new Set(["accept", "accept-language", "content-language"]);
const SIMPLE_TYPES = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];
const SIMPLE_METHODS = new Set(["GET", "HEAD", "POST"]);
const ALWAYS_EXPOSED = new Set([
  "cache-control", "content-language", "content-length", "content-type", "expires", "last-modified", "pragma",
]);

function listed(value) {
  return (value ?? "").split(",").map((item) => item.trim().toLowerCase()).filter(Boolean);
}

/** Refuse what a page of `origin` may not read. Requests go with credentials, so that `*` is no answer. */
function check(response, origin) {
  if (response.headers.get("access-control-allow-origin") !== origin) {
    throw new TypeError(`blocked by CORS: Access-Control-Allow-Origin is not ${origin}`);
  }
  if (response.headers.get("access-control-allow-credentials") !== "true") {
    throw new TypeError("blocked by CORS: credentials are not allowed");
  }
}

async function preflight(fetch, url, method, headers, origin) {
  const unusual = [...headers.keys()].filter((header) => {
    if (header === "content-type") return !SIMPLE_TYPES.some((type) => headers.get(header).startsWith(type));
    return !SIMPLE.has(header);
  });
  if (SIMPLE_METHODS.has(method) && unusual.length === 0) return;
  const asked = { Origin: origin, "Access-Control-Request-Method": method };
  if (unusual.length) asked["Access-Control-Request-Headers"] = unusual.sort().join(",");
  const response = await fetch(url, { method: "OPTIONS", headers: asked });
  check(response, origin);
  if (!response.ok) throw new TypeError(`blocked by CORS: the preflight answers ${response.status}`);
  const allowed = new Set(listed(response.headers.get("access-control-allow-headers")));
  const missing = unusual.filter((header) => !allowed.has(header));
  if (missing.length) throw new TypeError(`blocked by CORS: headers ${missing} are not allowed`);
  const methods = listed(response.headers.get("access-control-allow-methods"));
  if (!SIMPLE_METHODS.has(method) && !methods.includes(method.toLowerCase())) {
    throw new TypeError(`blocked by CORS: ${method} is not allowed`);
  }
}

function corsFetch(fetch, origin) {
  return async (url, options = {}) => {
    const headers = new Headers(options.headers);
    const method = (options.method ?? "GET").toUpperCase();
    await preflight(fetch, url, method, headers, origin);
    headers.set("Origin", origin);
    const response = await fetch(url, { ...options, headers });
    check(response, origin);
    const exposed = new Set([...ALWAYS_EXPOSED, ...listed(response.headers.get("access-control-expose-headers"))]);
    const readable = [...response.headers].filter(([header]) => exposed.has(header));
    const bodiless = response.status === 204;
    const body = bodiless ? null : await response.arrayBuffer();
    return new Response(body, { status: response.status, headers: readable });
  };
}

function storage() {
  const items = new Map();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => items.set(key, String(value)),
    removeItem: (key) => items.delete(key),
  };
}

/** Make this process a page of `origin`. Old SDKs bring fetch along and take the browser's where there is one. */
exports.becomeBrowser = (load, origin) => {
  globalThis.window = globalThis;
  Object.defineProperty(globalThis, "localStorage", { value: storage(), configurable: true });
  globalThis.location = new URL(origin);
  globalThis.fetch = corsFetch(globalThis.fetch, origin);
  let bundled;
  try {
    bundled = load.resolve("cross-fetch");
  } catch {
    return; // newer SDKs use the browser's own
  }
  require.cache[bundled] = { id: bundled, filename: bundled, loaded: true, exports: { fetch: globalThis.fetch } };
};
