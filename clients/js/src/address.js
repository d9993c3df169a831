/** Where the server is, and how the token goes there. */

const PATH = "/api/v1/events";
const SCHEMES = { "http:": "ws:", "ws:": "ws:", "https:": "wss:", "wss:": "wss:" };
const SUBPROTOCOL = "nexus.v1.json";
const SPEAKABLE = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/; // what a subprotocol may hold: RFC 9110 section 5.6.2
const PRINTABLE = /^[\x21-\x7e]+$/;

/**
 * Return the WebSocket URL of `http(s)://` or `ws(s)://HOST[:PORT][/PATH]`; without a path, that of the JSON session. Throw
 * `TypeError` if the text is no such URL. The text is not repeated in the error: it may hold a token.
 */
export function parseAddress(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    throw new TypeError("url: not a URL"); // the cause would show the text
  }
  if (!Object.hasOwn(SCHEMES, url.protocol)) throw new TypeError("url: expected http://, https://, ws:// or wss://");
  if (url.username || url.password) {
    throw new TypeError("url: must not hold a user or a password; give the token as `token`");
  }
  if (url.hash) throw new TypeError("url: must not have a fragment");
  const path = url.pathname === "/" ? PATH : url.pathname;
  return `${SCHEMES[url.protocol]}//${url.host}${path}${url.search}`;
}

/** Return the token, null if it is null or undefined. Throw `TypeError`, without repeating it, if it cannot be one. */
export function checkToken(token) {
  if (token === null || token === undefined) return null;
  if (typeof token !== "string" || !PRINTABLE.test(token)) {
    throw new TypeError("token: expected printable ASCII characters without spaces");
  }
  return token;
}

/**
 * Return URL and subprotocols for a socket. The token goes as a subprotocol, which no log has; one that holds other characters
 * than that can goes into the query.
 */
export function opening(address, token) {
  if (token === null) return [address, [SUBPROTOCOL]];
  if (SPEAKABLE.test(token)) return [address, [SUBPROTOCOL, `nexus.bearer.${token}`]];
  return [`${address}${address.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`, [SUBPROTOCOL]];
}
