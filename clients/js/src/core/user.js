/** Whom the server takes a client for. */

/** Return `{subject, role}` of a greeting; null if the server does not tell. */
export function userOf(member) {
  const { subject, role } = member ?? {};
  return typeof subject === "string" && typeof role === "string" ? Object.freeze({ subject, role }) : null;
}
